//! Reads a tar stream as it arrives.

use bytes::{Buf, Bytes, BytesMut};

use super::header::Header;
use super::pax::Overrides;
use super::{BLOCK, RECORD};
use crate::dialect::content::Content;
use crate::dialect::error::DialectError;
use crate::dialect::member::Member;
use crate::limits::{Limits, MAX_TAR_GLOBAL_HEADERS, MAX_TAR_HEADER_LEN};
use crate::shared::Shared;

/// An item of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Item {
    /// A file begins.
    Begin {
        /// Its content.
        member: Member,
        /// Its length in bytes, within its limit.
        len: u64,
        /// Whether its bytes come together.
        whole: bool,
    },
    /// Bytes of the current file, and whether they are the last.
    Bytes(Bytes, bool),
    /// The end of the stream, after its padding.
    End,
}

/// Reads a stream. Keeps no more of it than the headers of one file.
#[derive(Debug)]
pub(in crate::dialect) struct Reader {
    state: State,
    limits: Limits,
    /// Bytes taken off the stream.
    position: u64,
    overrides: Overrides,
    /// Whether the next file had an extended header: each kind may come once.
    extended: bool,
    long_name: Option<Vec<u8>>,
    global_headers: u32,
    shared: Shared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    /// The data of a header that describes the next file.
    Description {
        kind: u8,
        len: usize,
    },
    File {
        content: Content,
        padding: usize,
    },
    /// Bytes to skip up to the next header.
    Padding(usize),
    /// One block of zeros has come.
    SecondZeros,
    /// Bytes to skip up to the end of the record.
    LastPadding(usize),
    Over,
}

impl Reader {
    pub(in crate::dialect) fn new(limits: Limits) -> Self {
        Self {
            state: State::Header,
            limits,
            position: 0,
            overrides: Overrides::default(),
            extended: false,
            long_name: None,
            global_headers: 0,
            shared: Shared::new(),
        }
    }

    /// Takes the next item; `None` if more bytes are needed.
    pub(in crate::dialect) fn next(
        &mut self,
        input: &mut BytesMut,
    ) -> Result<Option<Item>, DialectError> {
        self.shared.look(input);
        loop {
            match self.state {
                State::Header => match self.take_block(input) {
                    None => return Ok(None),
                    Some(block) => {
                        if let Some(item) = self.take_header(&block)? {
                            return Ok(Some(item));
                        }
                    }
                },
                State::Description { kind, len } => {
                    let padded = len.next_multiple_of(BLOCK);
                    if input.len() < padded {
                        return Ok(None);
                    }
                    let data = self.take(input, padded);
                    self.describe(kind, data.get(..len).unwrap_or_default())?;
                    self.state = State::Header;
                }
                State::File {
                    mut content,
                    padding,
                } => {
                    let Some((bytes, last)) = content.take(input, &mut self.shared) else {
                        return Ok(None);
                    };
                    self.position = self.position.saturating_add(bytes.len() as u64);
                    self.state = match last {
                        true => State::Padding(padding),
                        false => State::File { content, padding },
                    };
                    return Ok(Some(Item::Bytes(bytes, last)));
                }
                State::Padding(len) => {
                    let Some(left) = self.skip(input, len) else {
                        self.state = State::Header;
                        continue;
                    };
                    self.state = State::Padding(left);
                    return Ok(None);
                }
                State::SecondZeros => match self.take_block(input) {
                    None => return Ok(None),
                    Some(block) if block.iter().all(|byte| *byte == 0) => {
                        let len = self.position.next_multiple_of(RECORD) - self.position;
                        self.state = State::LastPadding(usize::try_from(len).unwrap_or(0));
                    }
                    Some(_) => {
                        return Err(DialectError::Tar("only one block of zeros ends the stream"));
                    }
                },
                State::LastPadding(len) => {
                    let Some(left) = self.skip(input, len) else {
                        self.state = State::Over;
                        return Ok(Some(Item::End));
                    };
                    self.state = State::LastPadding(left);
                    return Ok(None);
                }
                State::Over => return Ok(None),
            }
        }
    }

    fn take_header(&mut self, block: &[u8; BLOCK]) -> Result<Option<Item>, DialectError> {
        let Some(header) = Header::parse(block)? else {
            if self.extended || self.long_name.is_some() {
                return Err(DialectError::Tar(
                    "a header describes a file that does not come",
                ));
            }
            self.state = State::SecondZeros;
            return Ok(None);
        };
        match header.kind {
            b'0' | b'\0' => self.begin(header).map(Some),
            kind @ (b'x' | b'g' | b'L') => {
                let len = usize::try_from(header.len)
                    .ok()
                    .filter(|len| *len <= MAX_TAR_HEADER_LEN)
                    .ok_or(DialectError::Tar("an extended header is too long"))?;
                self.state = State::Description { kind, len };
                Ok(None)
            }
            _ => Err(DialectError::Tar("a member is not a plain file")),
        }
    }

    /// Begins a file: its name and length are checked before any byte of it is taken.
    fn begin(&mut self, header: Header) -> Result<Item, DialectError> {
        self.extended = false;
        let Overrides { name, len } = std::mem::take(&mut self.overrides);
        let name = name.or(self.long_name.take()).unwrap_or(header.name);
        let len = len.unwrap_or(header.len);
        let member = Member::parse(&String::from_utf8_lossy(&name))?;
        if len > member.len_max(&self.limits) {
            return Err(DialectError::Tar("a file is longer than allowed"));
        }
        let content = match member {
            Member::Object(_) => Content::new(len),
            Member::Detached(_) => Content::whole(len),
            // Skipped as it arrives.
            Member::Companion(_) => Content::new(len),
        };
        let padding = len.next_multiple_of(BLOCK as u64) - len;
        self.state = State::File {
            content,
            padding: usize::try_from(padding).unwrap_or(0),
        };
        Ok(Item::Begin {
            member,
            len,
            whole: content.is_whole(),
        })
    }

    fn describe(&mut self, kind: u8, data: &[u8]) -> Result<(), DialectError> {
        const TWICE: DialectError =
            DialectError::Tar("two headers of one kind describe the same file");
        match kind {
            b'x' if self.extended => return Err(TWICE),
            b'x' => {
                self.extended = true;
                self.overrides = Overrides::parse(data)?;
            }
            b'g' => {
                self.global_headers += 1;
                if self.global_headers > MAX_TAR_GLOBAL_HEADERS
                    || !Overrides::parse(data)?.is_nothing()
                {
                    return Err(DialectError::Tar("a header applies to all files"));
                }
            }
            _ if self.long_name.is_some() => return Err(TWICE),
            _ => {
                let name = data.split(|byte| *byte == 0).next().unwrap_or_default();
                self.long_name = Some(name.to_vec());
            }
        }
        Ok(())
    }

    fn take_block(&mut self, input: &mut BytesMut) -> Option<[u8; BLOCK]> {
        let block = *input.first_chunk()?;
        self.take(input, BLOCK);
        Some(block)
    }

    fn take(&mut self, input: &mut BytesMut, len: usize) -> BytesMut {
        self.position = self.position.saturating_add(len as u64);
        input.split_to(len)
    }

    /// Skips the available bytes of `len`; returns how many are left, `None` if none.
    fn skip(&mut self, input: &mut BytesMut, len: usize) -> Option<usize> {
        let here = len.min(input.len());
        input.advance(here);
        self.position = self.position.saturating_add(here as u64);
        (here < len).then_some(len - here)
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::checksum;
    use super::super::{end, file_header, padding};
    use super::*;

    fn name() -> String {
        format!("{}.filez", "ab".repeat(32))
    }

    fn header(kind: u8, len: u64) -> Vec<u8> {
        let mut block = [0; BLOCK];
        block.copy_from_slice(&file_header(&name(), len));
        block[156] = kind;
        let sum = format!("{:06o}\0 ", checksum(&block));
        block[148..156].copy_from_slice(sum.as_bytes());
        block.to_vec()
    }

    /// Reads to the end, or to a refusal; returns the items, and the rest.
    fn read(stream: &[u8]) -> Result<(Vec<Item>, usize), DialectError> {
        let mut reader = Reader::new(Limits::default());
        let (mut input, mut items) = (BytesMut::from(stream), Vec::new());
        while let Some(item) = reader.next(&mut input)? {
            items.push(item);
        }
        Ok((items, input.len()))
    }

    #[test]
    fn what_is_written_is_read_up_to_the_end_of_its_record_and_no_further() {
        for count in 0..45_usize {
            let mut stream = Vec::new();
            for len in 0..count {
                stream.extend_from_slice(&file_header(&name(), len as u64));
                stream.extend(vec![b'x'; len]);
                stream.extend_from_slice(&padding(len as u64));
            }
            stream.extend_from_slice(&end(stream.len() as u64));
            assert!((stream.len() as u64).is_multiple_of(RECORD));
            stream.extend_from_slice(b"l\x01\x04\0\0");
            let (items, left) = read(&stream).unwrap();
            assert_eq!((items.len(), left), (2 * count + 1, 5), "{count}");
            assert_eq!(items.last(), Some(&Item::End));
        }
    }

    #[test]
    fn nothing_but_plain_files_is_read() {
        for kind in 0..=u8::MAX {
            let is_read = matches!(kind, 0 | b'0' | b'x' | b'g' | b'L');
            assert_eq!(read(&header(kind, 0)).is_ok(), is_read, "{kind}");
        }
    }

    #[test]
    fn what_describes_a_file_is_limited_in_length_and_number() {
        let most = MAX_TAR_HEADER_LEN as u64;
        assert!(read(&header(b'x', most)).is_ok());
        assert!(read(&header(b'x', most + 1)).is_err());
        assert!(read(&header(b'L', most + 1)).is_err());
        let global = |count: u32| header(b'g', 0).repeat(usize::try_from(count).unwrap());
        assert!(read(&global(MAX_TAR_GLOBAL_HEADERS)).is_ok());
        assert!(read(&global(MAX_TAR_GLOBAL_HEADERS + 1)).is_err());
        assert!(read(&header(b'x', 0).repeat(2)).is_err());
    }

    #[test]
    fn a_file_is_compared_with_its_limit_before_it_comes() {
        let most = Limits::default().object_len_max;
        assert!(read(&header(b'0', most)).is_ok());
        assert!(read(&header(b'0', most + 1)).is_err());
    }
}
