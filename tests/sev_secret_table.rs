//! The secret table as guests read it.

use keyward::sev::SecretTableError;
use keyward::sev::secret_table::{
    COCO_OFFLINE, COCO_ONLINE, DEFAULT_AREA, Entry, LUKS_PASSPHRASE, MAX, build, build_for_area, parse,
};
use proptest::prelude::*;
use uuid::Uuid;
use zeroize::Zeroizing;

pub(crate) fn entry(guid: Uuid, length: usize) -> Entry {
    Entry {
        guid,
        data: Zeroizing::new(vec![0xab; length]),
    }
}

fn numbered(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

#[test]
fn a_table_is_laid_out_as_ovmf_and_linux_read_it() {
    let table = build(&[Entry {
        guid: LUKS_PASSPHRASE,
        data: Zeroizing::new(b"pass".to_vec()),
    }])
    .unwrap();

    let expected = concat!(
        "42f5741edd71664d963eef4287ff173b", // the table's GUID, little-endian
        "2c000000",                         // 20 + 20 + 4
        "e5696873f084734992ec06879ce3da0b", // the entry's
        "18000000",                         // 20 + 4
        "70617373",                         // "pass"
        "00000000",                         // up to 48
    );
    assert_eq!(hex::encode(&table[..]), expected);
}

#[test]
fn the_known_guids_are_those_that_guests_look_for() {
    assert_eq!(
        LUKS_PASSPHRASE.to_string(),
        "736869e5-84f0-4973-92ec-06879ce3da0b"
    );
    assert_eq!(COCO_OFFLINE.to_string(), "e6f5a162-d67f-4750-a67c-5d065f2a9910");
    assert_eq!(COCO_ONLINE.to_string(), "1ee27366-0c87-43a6-af48-28543eaf7cb0");
}

#[test]
fn padding_goes_up_to_the_next_sixteen_and_no_further() {
    for (data, length) in [(0, 48), (7, 48), (8, 48), (9, 64), (24, 64), (25, 80)] {
        assert_eq!(
            build(&[entry(numbered(1), data)]).unwrap().len(),
            length,
            "{data} bytes of data"
        );
    }
}

#[test]
fn what_guests_would_not_find_is_refused() {
    let refused = |entries: &[Entry]| build(entries).unwrap_err();
    let table = "1e74f542-71dd-4d66-963e-ef4287ff173b".parse().unwrap();

    assert_eq!(refused(&[]), SecretTableError::Empty);
    assert_eq!(refused(&[entry(Uuid::nil(), 1)]), SecretTableError::NullGuid);
    assert_eq!(refused(&[entry(table, 1)]), SecretTableError::TableGuid);
    let twice = [
        entry(numbered(1), 1),
        entry(numbered(2), 1),
        entry(numbered(1), 2),
    ];
    assert_eq!(refused(&twice), SecretTableError::Duplicate(numbered(1)));
    let many = |count| {
        (1..=count)
            .map(|number| entry(numbered(number), 1))
            .collect::<Vec<_>>()
    };
    assert!(build(&many(64)).is_ok());
    assert_eq!(refused(&many(65)), SecretTableError::TooMany(65));
}

#[test]
fn a_table_may_fill_its_area_and_not_more() {
    let largest = |area: usize| area - 40;
    for area in [48, DEFAULT_AREA, MAX] {
        let fits = build_for_area(&[entry(numbered(1), largest(area))], area).unwrap();
        assert_eq!(fits.len(), area);
        let too_long = build_for_area(&[entry(numbered(1), largest(area) + 1)], area).unwrap_err();
        assert_eq!(
            too_long,
            SecretTableError::TooLong {
                length: area + 16,
                room: area
            }
        );
    }
    let beyond_the_psp = build_for_area(&[entry(numbered(1), MAX)], usize::MAX).unwrap_err();
    assert!(matches!(
        beyond_the_psp,
        SecretTableError::TooLong { room: MAX, .. }
    ));
}

#[test]
fn lengths_that_do_not_add_up_are_refused() {
    let table = build(&[entry(numbered(1), 4), entry(numbered(2), 4)]).unwrap();
    assert!(parse(&table).is_ok());
    for length in 0..table.len() {
        // Without the last byte of padding the rest is still a whole table.
        let whole = length >= 68;
        assert_eq!(
            parse(&table[..length]).is_ok(),
            whole,
            "{length} of {} bytes",
            table.len()
        );
    }
    for (offset, value) in [
        (16, 0),
        (16, 19),
        (16, 0xff),
        (36, 0),
        (36, 19),
        (36, 25),
        (36, 0xff),
    ] {
        let mut damaged = table.to_vec();
        damaged[offset] = value;
        assert!(
            matches!(parse(&damaged), Err(SecretTableError::Malformed)),
            "{value} at {offset}"
        );
    }
    // 68 bytes are padded to 80: twelve, and four more.
    let longer = |bytes: usize| [&table[..], &vec![0; bytes]].concat();
    assert!(parse(&longer(4)).is_ok());
    assert!(
        matches!(parse(&longer(5)), Err(SecretTableError::Malformed)),
        "a block of padding too many"
    );
}

#[test]
fn an_aligned_table_with_libvirt_s_sixteen_bytes_is_read() {
    let table = build(&[entry(numbered(1), 8)]).unwrap();
    assert_eq!(table.len(), 48, "20 + 20 + 8, aligned already");
    let surplus = |byte: u8| [&table[..], &[byte; 16]].concat();
    let read = parse(&surplus(0)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((read.len(), read[0].data.len()), (1, 8));
    assert!(matches!(parse(&surplus(1)), Err(SecretTableError::Malformed)));
    assert!(matches!(
        parse(&[&surplus(0)[..], &[0]].concat()),
        Err(SecretTableError::Malformed)
    ));
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(sizes in proptest::collection::vec(0..200usize, 1..40)) {
        let entries: Vec<_> = sizes.iter().enumerate()
            .map(|(index, size)| entry(numbered(index as u128 + 1), *size)).collect();
        let table = build(&entries).unwrap();
        prop_assert!(table.len().is_multiple_of(16));
        let back = parse(&table).ok().unwrap();
        prop_assert_eq!(back.len(), entries.len());
        for (one, other) in back.iter().zip(&entries) {
            prop_assert_eq!((one.guid, &one.data), (other.guid, &other.data));
        }
    }
}
