use super::*;

struct Memory(Vec<u8>);

impl ReadAt for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut rest = &self.0[offset as usize..];
        rest.read_exact(buffer)
    }
}

#[test]
fn any_part_of_an_encrypted_file_is_read() {
    let key = age::x25519::Identity::generate();
    for length in [1_usize, 5000, 65_536, 65_537, 131_072, 200_000] {
        let plain: Vec<u8> = (0..length).map(|at| (at * at % 251) as u8).collect();
        let sealed = age::encrypt(&key.to_public(), &plain).unwrap();
        let file = Arc::new(Memory(sealed.clone()));
        let bytes = Bytes::open("a", file, &[Identity(key.clone())]).unwrap();
        assert_eq!(bytes.size(), length as u64);
        let ends = [0, 1, 25, 1000, 65_535, 65_536, 65_537, 131_072, length];
        for _ in 0..2 {
            for start in ends.into_iter().rev().filter(|start| *start <= length) {
                for end in ends
                    .into_iter()
                    .filter(|end| *end >= start && *end <= length)
                {
                    let mut part = vec![0; end - start];
                    bytes.read_exact_at(&mut part, start as u64).unwrap();
                    assert!(part == plain[start..end], "{length}: {start}..{end}");
                }
            }
        }
        let mut sequential = bytes.sequential().unwrap();
        let mut all = vec![0; length];
        sequential.read_exact(&mut all).unwrap();
        assert!(all == plain);
        assert_eq!(sequential.finish().unwrap(), Some(Digest::of(&sealed)));
    }
}

#[test]
fn a_header_without_end_is_refused_early() {
    let identity = Identity(age::x25519::Identity::generate());
    for stanza in ["a", "-> X25519 a\nb\n"] {
        let endless = format!("age-encryption.org/v1\n{}", stanza.repeat(1 << 18));
        let file = Arc::new(Memory(endless.into_bytes()));
        assert!(Bytes::open("a", file, std::slice::from_ref(&identity)).is_err());
    }
}
