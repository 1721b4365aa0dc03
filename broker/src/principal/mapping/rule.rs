//! Decides whom a rule names and which name it gives, such that the principal can be read back from the name.

use std::fmt;

use kerbridge_gss::{Principal, PrincipalError};

use super::{LONGEST, Why, given_name, may_stand};
use crate::principal::{self, MOST_COMPONENTS};

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Whom it names.
    pub pattern: NamePattern,
    /// What it calls them.
    pub template: Template,
}

/// Principals with as many components, each of them a text or any (`*`), in one realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    components: Vec<Component>,
    realm: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Component {
    Exactly(String),
    Any,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// A `*` elsewhere than alone in a component.
    Star,
    /// More than [`MOST_COMPONENTS`].
    TooMany,
    /// Not a principal.
    Principal(PrincipalError),
}

impl NamePattern {
    /// Reads `*/admin@EXAMPLE.COM`. Escapes are those of a principal; a `*` cannot be escaped.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let principal = Principal::parse(text).map_err(PatternError::Principal)?;
        let principal = principal::canonical(principal.as_str()).map_err(PatternError::Principal)?;
        let components = principal::parts(&principal);
        if components.len() > MOST_COMPONENTS {
            return Err(PatternError::TooMany);
        }
        if text.contains("\\*") || principal.realm().contains('*') {
            return Err(PatternError::Star);
        }
        let components = components.into_iter().map(|component| match component.as_str() {
            "*" => Ok(Component::Any),
            other if other.contains('*') => Err(PatternError::Star),
            _ => Ok(Component::Exactly(component)),
        });
        Ok(Self {
            components: components.collect::<Result<_, _>>()?,
            realm: principal.realm().to_owned(),
        })
    }

    /// The realm.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// How many components its principals have.
    pub fn width(&self) -> usize {
        self.components.len()
    }

    /// Whether it names the principal of these components in this realm.
    pub fn matches(&self, components: &[String], realm: &str) -> bool {
        self.realm == realm
            && self.width() == components.len()
            && self.components.iter().zip(components).all(|(own, other)| match own {
                Component::Any => true,
                Component::Exactly(text) => text == other,
            })
    }

    /// Whether it names everybody whom the other one names.
    pub fn covers(&self, other: &Self) -> bool {
        self.realm == other.realm
            && self.width() == other.width()
            && self
                .components
                .iter()
                .zip(&other.components)
                .all(|(own, other)| *own == Component::Any || own == other)
    }
}

/// A name with gaps for components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Never empty, and never beside another one.
    Text(String),
    /// A component, counted from 0. Never beside another one.
    Gap(usize),
}

/// Why a text is no template for a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// Empty, or longer than [`LONGEST`] bytes.
    Length,
    /// A character that may not stand in a given name.
    Character(char),
    /// A brace that does not belong to `{1}` to `{8}`.
    Brace,
    /// A number that the pattern has no component for.
    NoComponent(usize),
    /// The component is a text that may not stand in a given name.
    Component(usize),
    /// A `*` of the pattern that the name leaves out, so that two principals would have one name.
    LeftOut(usize),
    /// A `*` that stands there twice.
    Twice(usize),
    /// Two gaps side by side, so that two principals would have one name.
    SideBySide,
}

impl Template {
    /// Reads `{1}-admin` for principals of a pattern.
    pub fn parse(text: &str, pattern: &NamePattern) -> Result<Self, TemplateError> {
        if !(1..=LONGEST).contains(&text.len()) {
            return Err(TemplateError::Length);
        }
        let mut pieces: Vec<Piece> = Vec::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let written = match character {
                '{' => {
                    let (number, after) = rest
                        .strip_prefix('{')
                        .and_then(|rest| rest.split_once('}'))
                        .ok_or(TemplateError::Brace)?;
                    rest = after;
                    let digit = matches!(number.as_bytes(), [b'1'..=b'9']);
                    let number = number.parse().ok().filter(|_| digit).ok_or(TemplateError::Brace)?;
                    let index = usize::saturating_sub(number, 1);
                    match pattern.components.get(index) {
                        None => return Err(TemplateError::NoComponent(number)),
                        Some(Component::Any) if pieces.contains(&Piece::Gap(index)) => {
                            return Err(TemplateError::Twice(number));
                        }
                        Some(Component::Any) => {
                            if let Some(Piece::Gap(_)) = pieces.last() {
                                return Err(TemplateError::SideBySide);
                            }
                            pieces.push(Piece::Gap(index));
                            continue;
                        }
                        Some(Component::Exactly(text)) if text.bytes().all(may_stand) => text.clone(),
                        Some(Component::Exactly(_)) => return Err(TemplateError::Component(number)),
                    }
                }
                '}' => return Err(TemplateError::Brace),
                other if u8::try_from(other).is_ok_and(may_stand) => {
                    rest = rest.strip_prefix(other).unwrap_or_default();
                    other.to_string()
                }
                other => return Err(TemplateError::Character(other)),
            };
            match pieces.last_mut() {
                Some(Piece::Text(text)) => text.push_str(&written),
                Some(Piece::Gap(_)) | None => pieces.push(Piece::Text(written)),
            }
        }
        let left_out = pattern
            .components
            .iter()
            .enumerate()
            .find(|(index, component)| **component == Component::Any && !pieces.contains(&Piece::Gap(*index)));
        match left_out {
            Some((index, _)) => Err(TemplateError::LeftOut(index.saturating_add(1))),
            None => Ok(Self(pieces)),
        }
    }

    /// The name of the principal with these components. From it they can be read back: a component that another one follows
    /// ends where the text behind it begins, since it does not hold that text's first byte.
    pub(super) fn fill(&self, components: &[String]) -> Result<String, Why> {
        let mut name = String::new();
        let mut pieces = self.0.as_slice();
        while let Some((piece, rest)) = pieces.split_first() {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Gap(index) => {
                    let component = components.get(*index).ok_or(Why::Characters)?;
                    // An empty one would make the gap's two sides meet.
                    if component.is_empty() {
                        return Err(Why::Length);
                    }
                    if let [Piece::Text(behind), Piece::Gap(_), ..] = rest
                        && behind.chars().next().is_some_and(|first| component.contains(first))
                    {
                        return Err(Why::Ambiguous);
                    }
                    name.push_str(component);
                }
            }
            pieces = rest;
        }
        given_name(name)
    }

    /// Whether it gives this name to anybody, or might: each gap may hold anything but nothing.
    pub(super) fn could_give(&self, name: &str) -> bool {
        let mut rest = name;
        let mut gap = false;
        let mut pieces = self.0.as_slice();
        while let Some((piece, behind)) = pieces.split_first() {
            match piece {
                Piece::Gap(_) => {
                    // At least one character; where the gap ends is found with the text behind it.
                    let mut characters = rest.chars();
                    if characters.next().is_none() {
                        return false;
                    }
                    rest = characters.as_str();
                    gap = true;
                }
                Piece::Text(text) if gap && behind.is_empty() => return rest.ends_with(text.as_str()),
                Piece::Text(text) => {
                    let after = if gap {
                        rest.split_once(text.as_str()).map(|(_, after)| after)
                    } else {
                        rest.strip_prefix(text.as_str())
                    };
                    let Some(after) = after else { return false };
                    rest = after;
                    gap = false;
                }
            }
            pieces = behind;
        }
        gap || rest.is_empty()
    }

    /// Whether every name that the other one gives is one that this could give.
    pub fn covers(&self, other: &Self) -> bool {
        // A character that stands for whatever a gap holds: no text of ours has it, so that only a gap takes it.
        let any: String = other
            .0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Gap(_) => "\0",
            })
            .collect();
        self.could_give(&any)
    }

    /// Whether it could give every name that there is.
    pub fn covers_all(&self) -> bool {
        self.could_give("\0")
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Star => f.write_str("a * stands only alone in a component"),
            Self::TooMany => write!(f, "more than {MOST_COMPONENTS} components"),
            Self::Principal(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PatternError {}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "a name has 1 to {LONGEST} bytes"),
            Self::Character(character) => write!(f, "{character:?} may not stand in a name"),
            Self::Brace => f.write_str("a brace belongs to {1} to {8}"),
            Self::NoComponent(number) => write!(f, "match has no component {number}"),
            Self::Component(number) => write!(f, "component {number} holds what may not stand in a name"),
            Self::LeftOut(number) => write!(f, "leaves out component {number}, so that two principals had one name"),
            Self::Twice(number) => write!(f, "has component {number} twice"),
            Self::SideBySide => f.write_str("has two components side by side, so that two principals had one name"),
        }
    }
}

impl std::error::Error for TemplateError {}
