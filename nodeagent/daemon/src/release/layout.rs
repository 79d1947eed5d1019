//! Values laid out in one memfd_secret area. Item `i` lies at `items[i].offset`; the area's descriptor goes to the wrapper.

use std::os::fd::OwnedFd;

use rempart_api::agent::Item;
use rempart_core::unitfile::SecretSpec;
use rempart_secret::SecretBytes;
use rempart_secretmem::{Area, Error};

/// Each value begins on a multiple of this, so that a wrapper may look at it in words.
const ALIGN: usize = 16;

/// An area with the values in it, nowhere mapped.
pub struct Layout {
    /// To be passed on.
    pub descriptor: OwnedFd,
    /// Its length in bytes.
    pub len: usize,
    /// One entry for each value.
    pub items: Vec<Item>,
    /// Most bytes of the secret heap that the service has to run on.
    pub heap: Option<u64>,
}

/// Copies `values` into a new area; they are wiped when they go out of scope here.
pub fn lay_out(specs: &[SecretSpec], values: Vec<SecretBytes>) -> Result<Layout, Error> {
    let mut end = 0_usize;
    let items: Vec<Item> = specs
        .iter()
        .zip(&values)
        .map(|(spec, value)| {
            let offset = end;
            end = (offset + value.len()).next_multiple_of(ALIGN);
            Item {
                name: spec.name.clone(),
                deliver: spec.deliver,
                offset,
                len: value.len(),
                path: None,
            }
        })
        .collect();
    let len = end.max(1);
    let mut area = Area::create(len)?;
    for (item, value) in items.iter().zip(&values) {
        area.as_mut_slice()[item.offset..item.offset + item.len].copy_from_slice(value.expose());
    }
    Ok(Layout {
        descriptor: area.into_descriptor(),
        len,
        items,
        heap: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rempart_api::agent::Deliver;

    fn spec(name: &str) -> SecretSpec {
        let reference = "kv/a#b".parse().expect("valid");
        SecretSpec {
            name: name.into(),
            deliver: Deliver::Fd,
            reference,
        }
    }

    #[test]
    fn values_lie_where_their_items_say() {
        let values = vec![
            SecretBytes::new(b"first value, 23 bytes!!".to_vec()),
            SecretBytes::new(b"second".to_vec()),
        ];
        let layout = lay_out(&[spec("a"), spec("b")], values).expect("memfd_secret");
        let area = Area::map(layout.descriptor, layout.len).expect("map");
        let at = |item: &Item| &area.as_slice()[item.offset..item.offset + item.len];
        assert_eq!(at(&layout.items[0]), b"first value, 23 bytes!!");
        assert_eq!(at(&layout.items[1]), b"second");
    }

    #[test]
    fn a_unit_without_secrets_gets_an_area_all_the_same() {
        assert_eq!(lay_out(&[], Vec::new()).expect("memfd_secret").len, 1);
    }
}
