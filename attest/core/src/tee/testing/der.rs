//! Just enough DER (X.690) to write certificates and revocation lists of the vendors' forms.

/// An element.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let mut out = vec![tag];
    match len {
        0..=0x7f => out.push(u8::try_from(len).expect("small")),
        0x80..=0xff => out.extend([0x81, u8::try_from(len).expect("a byte")]),
        _ => {
            out.push(0x82);
            out.extend(u16::try_from(len).expect("certificates are small").to_be_bytes());
        }
    }
    out.extend_from_slice(content);
    out
}

pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

pub fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x31, &parts.concat())
}

pub fn explicit(tag: u8, content: &[u8]) -> Vec<u8> {
    element(0xa0 | tag, content)
}

pub fn octets(content: &[u8]) -> Vec<u8> {
    element(0x04, content)
}

pub fn bits(content: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0], content].concat())
}

pub fn boolean(value: bool) -> Vec<u8> {
    element(0x01, &[if value { 0xff } else { 0 }])
}

pub fn null() -> Vec<u8> {
    vec![5, 0]
}

/// A number that is not negative.
pub fn integer(value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take_while(|b| **b == 0).count().min(7);
    let mut content = bytes[zeros..].to_vec();
    if content[0] & 0x80 != 0 {
        content.insert(0, 0);
    }
    element(0x02, &content)
}

/// An object identifier in dots.
pub fn oid(text: &str) -> Vec<u8> {
    let arcs: Vec<u64> = text.split('.').map(|a| a.parse().expect("arc")).collect();
    let mut content = Vec::new();
    for arc in std::iter::once(arcs[0] * 40 + arcs[1]).chain(arcs[2..].iter().copied()) {
        let mut groups = vec![(arc & 0x7f) as u8];
        let mut rest = arc >> 7;
        while rest > 0 {
            groups.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        content.extend(groups.iter().rev());
    }
    element(0x06, &content)
}

pub fn utf8(text: &str) -> Vec<u8> {
    element(0x0c, text.as_bytes())
}

pub fn ia5(text: &str) -> Vec<u8> {
    element(0x16, text.as_bytes())
}

/// A name with nothing but a common name.
pub fn name(common: &str) -> Vec<u8> {
    sequence(&[set(&[sequence(&[oid("2.5.4.3"), utf8(common)])])])
}

/// GeneralizedTime of Unix seconds.
pub fn time(unix: u64) -> Vec<u8> {
    let time = x509_parser::time::ASN1Time::from_timestamp(i64::try_from(unix).expect("a near time")).expect("a time");
    let t = time.to_datetime();
    let text = format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}Z",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    );
    element(0x18, text.as_bytes())
}

/// An extension.
pub fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let flag = if critical { boolean(true) } else { vec![] };
    sequence(&[oid(id), flag, octets(value)])
}

/// basicConstraints and keyUsage of an authority.
pub fn authority(may_sign_lists: bool) -> Vec<Vec<u8>> {
    let usage = if may_sign_lists {
        [1, 0b0000_0110]
    } else {
        [2, 0b0000_0100]
    };
    vec![
        extension("2.5.29.19", true, &sequence(&[boolean(true)])),
        extension("2.5.29.15", true, &element(0x03, &usage)),
    ]
}

/// What a certificate says.
pub struct Certificate<'a> {
    pub serial: u64,
    pub issuer: &'a str,
    pub subject: &'a str,
    pub not_before: u64,
    pub not_after: u64,
    pub spki: Vec<u8>,
    pub extensions: Vec<Vec<u8>>,
}

/// Signs bytes: AlgorithmIdentifier and signature.
pub trait Signer {
    fn algorithm(&self) -> Vec<u8>;
    fn sign(&self, message: &[u8]) -> Vec<u8>;
}

fn signed(signer: &dyn Signer, tbs: Vec<u8>) -> Vec<u8> {
    let signature = bits(&signer.sign(&tbs));
    sequence(&[tbs, signer.algorithm(), signature])
}

impl Certificate<'_> {
    pub fn signed_by(self, signer: &dyn Signer) -> Vec<u8> {
        let tbs = sequence(&[
            explicit(0, &integer(2)),
            integer(self.serial),
            signer.algorithm(),
            name(self.issuer),
            sequence(&[time(self.not_before), time(self.not_after)]),
            name(self.subject),
            self.spki,
            explicit(3, &sequence(&self.extensions)),
        ]);
        signed(signer, tbs)
    }
}

/// A revocation list that names `serials`.
pub fn crl(signer: &dyn Signer, issuer: &str, from: u64, until: u64, serials: &[u64]) -> Vec<u8> {
    let entries: Vec<_> = serials
        .iter()
        .map(|serial| sequence(&[integer(*serial), time(from)]))
        .collect();
    let entries = if entries.is_empty() { vec![] } else { sequence(&entries) };
    let tbs = sequence(&[
        integer(1),
        signer.algorithm(),
        name(issuer),
        time(from),
        time(until),
        entries,
        explicit(0, &sequence(&[extension("2.5.29.20", false, &integer(1))])),
    ]);
    signed(signer, tbs)
}

/// Armour.
pub fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("base64"))
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}
