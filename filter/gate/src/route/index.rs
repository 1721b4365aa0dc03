//! Finds the first route that is for a request, at a cost that does not grow with the number of routes.
//!
//! Routes stand in one tree of path segments for each host, wildcard host, and for every host. A request walks the trees
//! of its host; the lowest position among the routes that it meets decides, as if they had been tried in order.

use std::collections::HashMap;
use std::rc::Rc;

use super::path::{Segment, Tail, segments};
use super::{HostMatch, Route};

/// Most labels of a host that are looked up among wildcards.
const LABEL_LIMIT: usize = 32;

/// All routes of a configuration, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteIndex {
    routes: Vec<Rc<Route>>,
    exact: HashMap<Box<[u8]>, Tree>,
    /// By what stands behind `*.`.
    below: HashMap<Box<[u8]>, Tree>,
    every: Tree,
}

/// Nodes of a tree of segments; the first is the root.
#[derive(Clone, Debug)]
struct Tree(Vec<Node>);

/// The place behind some segments: where to go from it, and the routes that end here, by position.
#[derive(Clone, Debug, Default)]
struct Node {
    literals: HashMap<Box<[u8]>, usize>,
    any: Option<usize>,
    nothing: Vec<usize>,
    below: Vec<usize>,
    one_or_more: Vec<usize>,
}

impl Default for Tree {
    fn default() -> Self {
        Self(vec![Node::default()])
    }
}

impl RouteIndex {
    pub(crate) fn new(routes: Vec<Rc<Route>>) -> Self {
        let mut index = Self::default();
        for (position, route) in routes.iter().enumerate() {
            let tree = match &route.host {
                HostMatch::Every => &mut index.every,
                HostMatch::Exact(host) => index.exact.entry(host.as_bytes().into()).or_default(),
                HostMatch::Below(host) => index.below.entry(host.as_bytes().into()).or_default(),
            };
            tree.insert(route, position);
        }
        index.routes = routes;
        index
    }

    pub(crate) fn routes(&self) -> &[Rc<Route>] {
        &self.routes
    }

    /// The first route for a host (without port), an unambiguous path and a method.
    pub(crate) fn find(&self, host: &[u8], path: &[u8], method: &[u8]) -> Option<&Rc<Route>> {
        let host = host.to_ascii_lowercase();
        let mut best = self.every.find(&self.routes, path, method);
        let mut meet = |tree: Option<&Tree>| {
            if let Some(found) = tree.and_then(|tree| tree.find(&self.routes, path, method)) {
                best = Some(best.map_or(found, |best| best.min(found)));
            }
        };
        if !self.exact.is_empty() {
            meet(self.exact.get(host.as_slice()));
        }
        if !self.below.is_empty() {
            let mut rest = host.as_slice();
            for _ in 0..LABEL_LIMIT {
                let Some(dot) = rest.iter().position(|byte| *byte == b'.') else {
                    break;
                };
                rest = rest.get(dot.saturating_add(1)..).unwrap_or_default();
                meet(self.below.get(rest));
            }
        }
        best.and_then(|position| self.routes.get(position))
    }
}

impl Tree {
    fn insert(&mut self, route: &Route, position: usize) {
        let mut at = 0;
        for segment in &route.path.segments {
            let fresh = self.0.len();
            let Some(node) = self.0.get_mut(at) else { return };
            at = match segment {
                Segment::Literal(text) => *node.literals.entry(text.clone()).or_insert(fresh),
                Segment::Any => *node.any.get_or_insert(fresh),
            };
            if at == fresh {
                self.0.push(Node::default());
            }
        }
        if let Some(node) = self.0.get_mut(at) {
            match route.path.tail {
                Tail::Nothing => node.nothing.push(position),
                Tail::Below => node.below.push(position),
                Tail::OneOrMore => node.one_or_more.push(position),
            }
        }
    }

    /// The lowest position of a route for this path and method.
    fn find(&self, routes: &[Rc<Route>], path: &[u8], method: &[u8]) -> Option<usize> {
        let first = |positions: &[usize]| {
            positions
                .iter()
                .copied()
                .find(|position| routes.get(*position).is_some_and(|route| route.is_for_method(method)))
        };
        let mut best: Option<usize> = None;
        let mut meet = |found: Option<usize>| {
            if let Some(found) = found {
                best = Some(best.map_or(found, |best| best.min(found)));
            }
        };
        // Places reached by the segments so far. Each node is reached by one way only, so there are never more than nodes.
        let mut here = vec![0];
        let mut next = Vec::new();
        for segment in segments(path) {
            for node in here.iter().filter_map(|at| self.0.get(*at)) {
                meet(first(&node.below));
                if !segment.is_empty() {
                    meet(first(&node.one_or_more));
                    next.extend(node.any);
                }
                next.extend(node.literals.get(segment));
            }
            std::mem::swap(&mut here, &mut next);
            next.clear();
            if here.is_empty() {
                return best;
            }
        }
        for node in here.iter().filter_map(|at| self.0.get(*at)) {
            meet(first(&node.below));
            meet(first(&node.nothing));
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::path::PathPattern;
    use crate::route::{HostMatch, Need};
    use proptest::prelude::*;

    fn route(host: &str, path: PathPattern, method: &str) -> Rc<Route> {
        Rc::new(Route {
            name: "r".into(),
            host: match host.strip_prefix("*.") {
                Some(rest) => HostMatch::Below(rest.into()),
                None if host.is_empty() => HostMatch::Every,
                None => HostMatch::Exact(host.into()),
            },
            path,
            methods: if method.is_empty() { vec![] } else { vec![method.into()] },
            need: Need::Open { forward: false },
            cors_preflight: false,
            dry_run: false,
        })
    }

    fn matches(route: &Route, host: &str, path: &str, method: &str) -> bool {
        let host = match &route.host {
            HostMatch::Every => true,
            HostMatch::Exact(own) => **own == *host,
            HostMatch::Below(own) => host.strip_suffix(&**own).is_some_and(|rest| rest.ends_with('.')),
        };
        host && route.path.matches(path.as_bytes()) && route.is_for_method(method.as_bytes())
    }

    fn routes() -> impl Strategy<Value = Vec<Rc<Route>>> {
        let segment = prop_oneof![
            Just(Segment::Any),
            "[ab]".prop_map(|text| Segment::Literal(text.into_bytes().into()))
        ];
        let tail = prop_oneof![Just(Tail::Nothing), Just(Tail::Below), Just(Tail::OneOrMore)];
        let path = (proptest::collection::vec(segment, 0..4), tail)
            .prop_map(|(segments, tail)| PathPattern { segments, tail });
        let host = prop_oneof![Just(""), Just("a.b.c"), Just("*.b.c"), Just("*.c"), Just("b.c")];
        let method = prop_oneof![Just(""), Just("GET"), Just("PUT")];
        let one = (host, path, method).prop_map(|(host, path, method)| route(host, path, method));
        proptest::collection::vec(one, 0..12)
    }

    proptest! {
        #[test]
        fn the_route_found_is_the_first_that_matches(
            routes in routes(),
            path in "(/[abc]?){1,4}",
            host in prop_oneof![Just("a.b.c"), Just("b.c"), Just("x.c"), Just("c"), Just("")],
            method in prop_oneof![Just("GET"), Just("PUT")],
        ) {
            let index = RouteIndex::new(routes.clone());
            let wanted = routes.iter().position(|route| matches(route, host, &path, method));
            let found = index.find(host.to_ascii_uppercase().as_bytes(), path.as_bytes(), method.as_bytes());
            let found = found.and_then(|found| routes.iter().position(|route| Rc::ptr_eq(route, found)));
            prop_assert_eq!(found, wanted);
        }
    }
}
