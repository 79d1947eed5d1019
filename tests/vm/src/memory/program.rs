//! Which program has a frame, out of its page tables and its stack alone.

use std::collections::HashSet;

use super::{Frame, KernelMap, Leaf, Memory, PAGE};

/// exec(2) ends a stack with the path that it was given and a null pointer (fs/exec.c, `bprm->exec`); a few pages of the vDSO may lie above.
const ABOVE_THE_STACK: usize = 64;

/// One address space.
pub struct Program {
    /// The path that was executed, which for a script is the script's.
    pub path: String,
    frames: HashSet<Frame>,
}

impl Program {
    /// What it maps.
    pub fn frames(&self) -> impl Iterator<Item = Frame> {
        self.frames.iter().copied()
    }

    /// Does it map the frame?
    pub fn maps(&self, frame: Frame) -> bool {
        self.frames.contains(&frame)
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// All programs that run.
pub fn programs(memory: &Memory, kernel: &KernelMap) -> Vec<Program> {
    let spaces = kernel.address_spaces(memory);
    spaces.iter().map(|leaves| program(memory, leaves)).collect()
}

fn program(memory: &Memory, leaves: &[Leaf]) -> Program {
    let upper = leaves.iter().rev().take(ABOVE_THE_STACK);
    let path = upper.filter_map(|leaf| executed(memory.page(leaf.frame)?)).next();
    let frames = leaves
        .iter()
        .flat_map(|leaf| leaf.frame.0..leaf.frame.0.saturating_add(leaf.frames))
        .map(Frame)
        .collect();
    Program {
        path: path.unwrap_or_else(|| "an unnamed program".to_owned()),
        frames,
    }
}

/// The path at the end of a stack's topmost page.
fn executed(page: &[u8]) -> Option<String> {
    let (text, end) = page.split_at(PAGE - 9);
    let from = text.iter().rposition(|byte| *byte == 0)? + 1;
    let path = std::str::from_utf8(&text[from..]).ok()?;
    (end.iter().all(|byte| *byte == 0) && path.starts_with('/')).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_ends_the_stack() {
        let mut page = vec![0; PAGE];
        assert_eq!(executed(&page), None);
        let text = b"PATH=/bin\0/usr/sbin/nginx";
        page[PAGE - 9 - text.len()..PAGE - 9].copy_from_slice(text);
        assert_eq!(executed(&page).as_deref(), Some("/usr/sbin/nginx"));
        page[PAGE - 1] = 1;
        assert_eq!(executed(&page), None);
    }
}
