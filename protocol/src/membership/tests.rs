//! Membership from records in any order, and what is refused.

use super::*;
use proptest::prelude::*;

struct Person {
    site: SiteId,
    key: SigningKey,
}

fn person(number: u8) -> Person {
    Person { site: SiteId::from_bytes([number; 16]), key: SigningKey::from_seed([number; 32]) }
}

fn name(name: &str) -> Name {
    name.parse().unwrap()
}

fn founded() -> (Membership, Person) {
    let founder = person(1);
    let founding = Founding {
        site: founder.site,
        name: name("downtown"),
        key: founder.key.public(),
        founded: WallTime(1),
    };
    (Membership::found(founding, &founder.key).unwrap(), founder)
}

fn admission(group: GroupId, who: &Person, by: &Person, called: &str, at: i64) -> SignedRecord {
    let record = Record::Admission(Admission {
        group,
        site: who.site,
        name: name(called),
        key: who.key.public(),
        residues: Residues::ALL.split(2).1,
        inviter: by.site,
        admitted: WallTime(at),
    });
    SignedRecord::sign(&record, &by.key).unwrap()
}

fn contact(group: GroupId, who: &Person, address: &str, number: u64) -> SignedRecord {
    let record =
        Record::Contact(Contact { group, site: who.site, addresses: vec![address.into()], number });
    SignedRecord::sign(&record, &who.key).unwrap()
}

/// A founding, two admissions at once by two members, one in turn by one of these, a handover, and
/// contacts.
fn history() -> Vec<SignedRecord> {
    let (membership, founder) = founded();
    let group = membership.group();
    let (second, third, fourth) = (person(2), person(3), person(4));
    let mut records: Vec<SignedRecord> = membership.records().cloned().collect();
    records.push(admission(group, &second, &founder, "uptown", 2));
    records.push(admission(group, &third, &second, "harbour", 3));
    records.push(admission(group, &fourth, &founder, "harbour", 3));
    let residues = Residues::ALL.split(2).1.split(8).1;
    let (from, to, handed) = (second.site, fourth.site, WallTime(2));
    let handover = Record::Handover(Handover { group, from, to, residues, handed });
    records.push(SignedRecord::sign(&handover, &second.key).unwrap());
    records.push(contact(group, &third, "old.example:1", 1));
    records.push(contact(group, &third, "new.example:1", 2));
    records
}

#[test]
fn two_sites_admitted_at_once_under_one_name_are_told_apart() {
    let mut membership = Membership::empty(founded().0.group());
    assert_eq!(membership.merge(history()).unwrap().len(), 7);
    let names: Vec<&str> = membership.members().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["downtown", "uptown", "harbour", "harbour-2"]);
    let third = membership.member(person(3).site).unwrap();
    assert_eq!(
        (third.addresses.as_slice(), third.contact_number),
        (&["new.example:1".into()][..], 2)
    );
    assert_eq!(membership.records().count(), 6, "an outdated contact is forgotten");
    let owned: Vec<u32> = membership.members().map(|member| member.residues.count()).collect();
    assert_eq!(owned.iter().sum::<u32>(), 128, "each residue has one owner: {owned:?}");
}

#[test]
fn a_removed_site_is_a_member_no_more() {
    let (mut membership, founder) = founded();
    let second = person(2);
    let group = membership.group();
    membership.merge(vec![admission(group, &second, &founder, "uptown", 2)]).unwrap();
    assert!(membership.by_key(&second.key.public()).is_some());
    let removal = Record::Removal(Removal {
        group,
        site: second.site,
        by: founder.site,
        removed: WallTime(3),
    });
    membership.merge(vec![SignedRecord::sign(&removal, &founder.key).unwrap()]).unwrap();
    assert!(membership.by_key(&second.key.public()).is_none());
    assert!(membership.by_name(&name("uptown")).is_none());
}

#[test]
fn nobody_is_admitted_by_a_stranger_or_under_a_false_signature() {
    let (mut membership, founder) = founded();
    let (stranger, friend) = (person(8), person(9));
    let group = membership.group();
    // A stranger's word waits for the stranger to be known: it does not count.
    let added = membership.merge(vec![admission(group, &friend, &stranger, "x", 2)]).unwrap();
    assert!(added.is_empty() && membership.members().count() == 1);
    let mut forged = admission(group, &friend, &founder, "x", 2);
    forged.signature = stranger.key.sign(RECORD_DOMAIN, &forged.bytes);
    assert_eq!(membership.merge(vec![forged]), Err(MembershipError::Forged));
    let elsewhere = GroupId(Uuid::from_bytes([9; 16]));
    let other = admission(elsewhere, &friend, &founder, "x", 2);
    assert_eq!(membership.merge(vec![other]), Err(MembershipError::OtherGroup));
    assert_eq!(membership.members().count(), 1);
}

#[test]
fn another_founder_is_not_this_groups() {
    let (mut membership, _) = founded();
    let other = person(7);
    let founding = Founding {
        site: other.site,
        name: name("thief"),
        key: other.key.public(),
        founded: WallTime(0),
    };
    let thief = Membership::found(founding, &other.key).unwrap();
    let records = thief.records().cloned().collect();
    assert_eq!(membership.merge(records), Err(MembershipError::OtherGroup));
}

#[test]
fn a_record_in_an_unusual_form_is_refused() {
    let (mut membership, founder) = founded();
    let mut record = contact(membership.group(), &founder, "a:1", 1);
    // The number 1 as two bytes.
    record.bytes.pop();
    record.bytes.extend([0xcc, 1]);
    record.signature = founder.key.sign(RECORD_DOMAIN, &record.bytes);
    assert!(matches!(membership.merge(vec![record]), Err(MembershipError::Malformed(_))));
}

#[test]
fn residues_are_split_evenly_and_interleaved() {
    let (kept, given) = Residues::ALL.split(2);
    assert_eq!((kept.count(), given.count()), (64, 64));
    assert_eq!(kept.0 & given.0, 0);
    assert_eq!(given.split(2).1.count(), 32);
    assert_eq!(kept.split(8).1.count(), 8);
    let (one, two) = (Residues(1 << 5), Residues(1 << 5 | 1 << 90));
    assert_eq!(one.split(8), (one, Residues(0)));
    assert_eq!(two.split(8), (one, Residues(1 << 90)));
    assert_eq!(Residues(0).split(2), (Residues(0), Residues(0)));
}

#[test]
fn residues_go_over_once_the_giver_has_them() {
    let (mut membership, founder) = founded();
    let (second, third) = (person(2), person(3));
    let group = membership.group();
    let handover = |from: &Person, to: &Person, residues, at| {
        let (from_site, to) = (from.site, to.site);
        let handed = WallTime(at);
        let record = Record::Handover(Handover { group, from: from_site, to, residues, handed });
        SignedRecord::sign(&record, &from.key).unwrap()
    };
    let half = Residues::ALL.split(2).1;
    let part = half.split(8).1;
    // The second site's clock is behind that of the first: it gave before it got.
    let records = vec![
        admission(group, &second, &founder, "uptown", 50),
        admission(group, &third, &founder, "harbour", 60),
        handover(&second, &third, part, 10),
        // Not its own to give.
        handover(&third, &second, Residues::ALL.split(2).0, 70),
    ];
    membership.merge(records.iter().rev().cloned().collect()).unwrap();
    let owned = |who: &Person| membership.member(who.site).unwrap().residues;
    assert_eq!(owned(&third), part);
    assert_eq!(owned(&second).0, half.0 & !part.0);
    assert_eq!(owned(&founder).0, !half.0);
    let mut in_order = founded().0;
    in_order.merge(records).unwrap();
    assert!(in_order.members().eq(membership.members()));
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_give_the_same_members(
        order in Just((0..7).chain(0..7).collect::<Vec<usize>>()).prop_shuffle(),
        cut in 1_usize..14,
    ) {
        let records = history();
        let mut expected = Membership::empty(founded().0.group());
        expected.merge(records.clone()).unwrap();
        prop_assert_eq!(expected.merge(records.clone()).unwrap(), Vec::new());
        let mut membership = Membership::empty(founded().0.group());
        let shuffled: Vec<SignedRecord> = order.iter().map(|n| records[*n].clone()).collect();
        // A part that can't be placed yet comes again with the rest.
        membership.merge(shuffled[..cut].to_vec()).unwrap();
        membership.merge(shuffled).unwrap();
        prop_assert_eq!(membership.digest(), expected.digest());
        prop_assert!(membership.members().eq(expected.members()));
    }
}
