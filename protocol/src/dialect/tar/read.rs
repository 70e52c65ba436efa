//! Reading a tar stream as it comes.

use bytes::{Buf, Bytes, BytesMut};

use super::header::Header;
use super::pax::Overrides;
use super::{BLOCK, RECORD};
use crate::dialect::content::Content;
use crate::dialect::error::DialectError;
use crate::dialect::member::Member;
use crate::limits::{Limits, MAX_TAR_GLOBAL_HEADERS, MAX_TAR_HEADER_LEN};

/// What comes of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Item {
    /// A file begins.
    Begin {
        /// What it carries.
        member: Member,
        /// Its length in bytes, within its limit.
        len: u64,
        /// Its bytes come together.
        whole: bool,
    },
    /// Bytes of the file that began, and whether they are the last.
    Bytes(Bytes, bool),
    /// The stream is over, its padding included.
    End,
}

/// Reads a stream. It keeps no more of it than the headers before one file.
#[derive(Debug)]
pub(in crate::dialect) struct Reader {
    state: State,
    limits: Limits,
    /// Bytes of the stream that were taken.
    position: u64,
    overrides: Overrides,
    /// There was a header for the next file, of this kind: each comes once.
    extended: bool,
    long_name: Option<Vec<u8>>,
    global_headers: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    /// What describes the next file is to come.
    Description {
        kind: u8,
        len: usize,
    },
    File {
        content: Content,
        padding: usize,
    },
    /// Bytes to be passed over, up to the next header.
    Padding(usize),
    /// One block of zeros has come.
    SecondZeros,
    /// Bytes to be passed over, up to the end of the record.
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
        }
    }

    /// Takes the next item; `None` if more bytes are needed.
    pub(in crate::dialect) fn next(
        &mut self,
        input: &mut BytesMut,
    ) -> Result<Option<Item>, DialectError> {
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
                    let Some((bytes, last)) = content.take(input) else {
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
                    Some(_) => return Err(DialectError::Tar("a single block of zeros")),
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
                return Err(DialectError::Tar("a header for a file that does not come"));
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
                    .ok_or(DialectError::Tar("an extended header that is too long"))?;
                self.state = State::Description { kind, len };
                Ok(None)
            }
            _ => Err(DialectError::Tar("what is no plain file")),
        }
    }

    /// Begins a file: nothing of it is taken before its name and length are found to be right.
    fn begin(&mut self, header: Header) -> Result<Item, DialectError> {
        self.extended = false;
        let Overrides { name, len } = std::mem::take(&mut self.overrides);
        let name = name.or(self.long_name.take()).unwrap_or(header.name);
        let len = len.unwrap_or(header.len);
        let member = Member::parse(&String::from_utf8_lossy(&name))?;
        if len > member.len_max(&self.limits) {
            return Err(DialectError::Tar("a file longer than it may be"));
        }
        let content = match member {
            Member::Object(_) => Content::new(len),
            Member::Detached(_) => Content::whole(len),
            // Passed over as it comes.
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
        const TWICE: DialectError = DialectError::Tar("two headers of a kind for one file");
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
                    return Err(DialectError::Tar("a header for all files"));
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

    /// Passes over what there is of `len` bytes; returns how many are left, `None` if none is.
    fn skip(&mut self, input: &mut BytesMut, len: usize) -> Option<usize> {
        let here = len.min(input.len());
        input.advance(here);
        self.position = self.position.saturating_add(here as u64);
        (here < len).then_some(len - here)
    }
}
