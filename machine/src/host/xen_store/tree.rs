//! The nodes of the simulated store.

use std::collections::BTreeMap;

/// Values by absolute path. A node's parents exist too.
#[derive(Clone, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Vec<u8>>,
}

impl Tree {
    pub(super) fn read(&self, path: &str) -> Option<&[u8]> {
        self.nodes.get(path).map(Vec::as_slice)
    }

    pub(super) fn write(&mut self, path: &str, value: &[u8]) {
        let parents =
            path.match_indices('/').map(|(end, _)| &path[..end]).filter(|parent| !parent.is_empty());
        for parent in parents {
            self.nodes.entry(parent.into()).or_default();
        }
        self.nodes.insert(path.into(), value.to_vec());
    }

    /// The paths removed, `path` first.
    pub(super) fn remove(&mut self, path: &str) -> Vec<String> {
        let gone: Vec<String> = self.nodes.keys().filter(|node| is_within(node, path)).cloned().collect();
        gone.iter().for_each(|node| drop(self.nodes.remove(node)));
        gone
    }

    pub(super) fn list(&self, path: &str) -> Vec<String> {
        let prefix = if path == "/" { String::from("/") } else { format!("{path}/") };
        let below = self.nodes.keys().filter_map(|node| node.strip_prefix(&prefix));
        below.filter(|name| !name.contains('/')).map(String::from).collect()
    }
}

/// Whether `path` is `top` or below it.
pub(super) fn is_within(path: &str, top: &str) -> bool {
    top == "/" || path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
