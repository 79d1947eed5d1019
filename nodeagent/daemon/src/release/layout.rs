//! Values laid out in one memfd_secret area. Item `i` lies at `items[i].offset`; the area's descriptor goes to the wrapper.

use std::os::fd::OwnedFd;

use rempart_api::agent::{Access, Deliver, Item};
use rempart_secret::SecretBytes;
use rempart_secretmem::{Area, Error};

/// Each value begins on a multiple of this, so that a wrapper may look at it in words.
const ALIGN: usize = 16;

/// One value for the unit.
pub struct Delivery {
    /// The name that the service knows it by.
    pub name: String,
    /// How it gets it.
    pub deliver: Deliver,
    /// Mode and owner of a file.
    pub access: Access,
    /// What it gets.
    pub value: SecretBytes,
}

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

/// Copies them into a new area; they are wiped when they go out of scope here.
pub fn lay_out(deliveries: Vec<Delivery>) -> Result<Layout, Error> {
    let mut end = 0_usize;
    let items: Vec<Item> = deliveries
        .iter()
        .map(|delivery| {
            let offset = end;
            end = (offset + delivery.value.len()).next_multiple_of(ALIGN);
            Item {
                name: delivery.name.clone(),
                deliver: delivery.deliver,
                offset,
                len: delivery.value.len(),
                path: None,
                access: delivery.access.clone(),
            }
        })
        .collect();
    let len = end.max(1);
    let mut area = Area::create(len)?;
    for (item, delivery) in items.iter().zip(&deliveries) {
        area.as_mut_slice()[item.offset..item.offset + item.len].copy_from_slice(delivery.value.expose());
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

    fn delivery(name: &str, value: &[u8]) -> Delivery {
        Delivery {
            name: name.into(),
            deliver: Deliver::Fd,
            access: Access::default(),
            value: SecretBytes::new(value.to_vec()),
        }
    }

    #[test]
    fn values_lie_where_their_items_say() {
        let values = vec![delivery("a", b"first value, 23 bytes!!"), delivery("b", b"second")];
        let layout = lay_out(values).expect("memfd_secret");
        let area = Area::map(layout.descriptor, layout.len).expect("map");
        let at = |item: &Item| &area.as_slice()[item.offset..item.offset + item.len];
        assert_eq!(at(&layout.items[0]), b"first value, 23 bytes!!");
        assert_eq!(at(&layout.items[1]), b"second");
    }

    #[test]
    fn a_unit_without_secrets_gets_an_area_all_the_same() {
        assert_eq!(lay_out(Vec::new()).expect("memfd_secret").len, 1);
    }
}
