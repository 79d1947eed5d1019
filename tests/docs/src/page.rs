//! One page in CommonMark with tables: what stands in it as code, and where it points.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A page of the repository.
#[derive(Debug, Clone)]
pub struct Page {
    /// From the repository's root.
    pub path: PathBuf,
    /// Blocks of code, fenced or indented.
    pub blocks: Vec<Code>,
    /// Code within a line.
    pub words: Vec<Code>,
    /// Links and pictures.
    pub links: Vec<Link>,
}

/// Something that stands there as code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The line that it begins in, from 1.
    pub line: usize,
    /// What a fence says of its content: `sh`, `ini`, nothing.
    pub info: String,
    /// The text.
    pub text: String,
}

/// Where a page points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The line that it begins in, from 1.
    pub line: usize,
    /// As written.
    pub to: String,
}

impl Page {
    /// Reads `path` below `root`.
    pub fn read(root: &Path, path: &Path) -> Result<Self> {
        let text = fs::read_to_string(root.join(path)).with_context(|| path.display().to_string())?;
        Ok(Self::parse(path, &text))
    }

    /// Reads `text` as the page at `path`.
    #[must_use]
    pub fn parse(path: &Path, text: &str) -> Self {
        let mut page = Self {
            path: path.to_owned(),
            blocks: Vec::new(),
            words: Vec::new(),
            links: Vec::new(),
        };
        let line = |offset: usize| 1 + text[..offset].matches('\n').count();
        let mut block: Option<Code> = None;
        for (event, span) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = line(span.start);
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    let info = match kind {
                        CodeBlockKind::Fenced(info) => info.into_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    block = Some(Code {
                        line,
                        info,
                        text: String::new(),
                    });
                }
                Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
                Event::Text(part) => {
                    if let Some(block) = &mut block {
                        block.text.push_str(&part);
                    }
                }
                Event::Code(part) => page.words.push(Code {
                    line,
                    info: String::new(),
                    text: part.into_string(),
                }),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => page.links.push(Link {
                    line,
                    to: dest_url.into_string(),
                }),
                _ => {}
            }
        }
        page
    }

    /// Every piece of code.
    pub fn code(&self) -> impl Iterator<Item = &Code> {
        self.blocks.iter().chain(&self.words)
    }

    /// Where something stands, for messages.
    #[must_use]
    pub fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_links_are_found_with_their_lines() {
        let text = "# A\n\nSee [b](b.md#c) and `rempart status`.\n\n    rempart gate\n\n```sh\n./x test\n```\n\n| a |\n|---|\n| `Leak=off` |\n";
        let page = Page::parse(Path::new("docs/a.md"), text);
        let told = |code: &[Code]| -> Vec<(usize, String, String)> {
            code.iter()
                .map(|code| (code.line, code.info.clone(), code.text.clone()))
                .collect()
        };
        assert_eq!(
            told(&page.blocks),
            [
                (5, String::new(), "rempart gate\n".to_owned()),
                (7, "sh".to_owned(), "./x test\n".to_owned())
            ]
        );
        assert_eq!(
            told(&page.words),
            [
                (3, String::new(), "rempart status".to_owned()),
                (13, String::new(), "Leak=off".to_owned())
            ]
        );
        assert_eq!(
            page.links,
            [Link {
                line: 3,
                to: "b.md#c".to_owned()
            }]
        );
    }
}
