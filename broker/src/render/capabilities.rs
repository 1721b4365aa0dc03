//! What the module may ask of Envoy, and what Envoy may call in it: `allowed_capabilities` of the plugin. Everything else is
//! refused by Envoy, whatever the module tries. The doctor asks for the same list.

/// Each function by the name that Envoy knows it by. Both plugins name all of them, since the first of the two makes the VM that
/// they share.
pub(super) fn allowed() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("../doctor/envoy/capabilities.txt").lines();
    lines.filter(|line| !line.starts_with('#'))
}
