//! f once more, as plainly as it is defined and as slowly as that is: what `whole` must equal.

use super::super::{
    Constraints, Index, Life, Meant, Reason, Remedy, RowId, Shown, Slot, Table, Unique,
};
use super::schema::Schema;
use crate::Value;
use std::collections::BTreeMap;

type Rows = BTreeMap<RowId, Meant>;

/// Slots of a row by its values.
fn slots(schema: &Schema, id: &RowId, values: &[Value]) -> Vec<Slot> {
    let Ok(key) = schema.key_claim(id);
    let mut slots = vec![Slot { unique: Unique::Key(id.table), claim: key }];
    for index in indexes(schema, id.table) {
        slots.extend(slot(schema, index, values));
    }
    slots
}

fn indexes(schema: &Schema, table: Table) -> Vec<Index> {
    let Ok(indexes) = schema.indexes(table);
    indexes
}

fn slot(schema: &Schema, index: Index, values: &[Value]) -> Option<Slot> {
    let Ok(claim) = schema.claim(index, values);
    claim.map(|claim| Slot { unique: Unique::Index(index), claim })
}

fn accepts(schema: &Schema, id: &RowId, values: &[Value]) -> bool {
    let Ok(accepts) = schema.accepts(id.table, values);
    accepts
}

/// The values by which a row claims.
pub(super) fn claiming(schema: &Schema, id: &RowId, meant: &Meant) -> Vec<Value> {
    let mut values = meant.values.clone();
    for (column, shown) in &meant.remembered {
        values[*column] = shown.clone();
    }
    if accepts(schema, id, &values) { values } else { meant.values.clone() }
}

/// The form of a row that lost on `lost`, so that it holds nothing that is `taken`.
pub(super) fn marked(
    schema: &Schema,
    id: &RowId,
    meant: &Meant,
    lost: &[Index],
    taken: &dyn Fn(&Slot) -> bool,
) -> Result<Vec<Value>, Index> {
    let first = claiming(schema, id, meant);
    let mut values = first.clone();
    let Ok(code) = schema.code(id.birth.unwrap_or(meant.rank).origin);
    for (at, index) in lost.iter().enumerate() {
        if slot(schema, *index, &values) != slot(schema, *index, &first) {
            continue;
        }
        let Ok(remedy) = schema.remedy(*index);
        let (column, numbers, nullable) = match remedy {
            Remedy::Park => return Err(*index),
            Remedy::Null { column } => (column, 0, true),
            Remedy::Mark { column, nullable } => (column, 64, nullable),
        };
        let plain = |value: &Value| match value {
            Value::Null => String::new(),
            Value::Integer(integer) => integer.to_string(),
            Value::Text(text) => String::from_utf8(text.clone()).unwrap(),
            other => panic!("{other:?} isn't generated"),
        };
        let text = format!("{}~{code}~{}", plain(&first[column]), plain(&id.key[0]));
        let mut forms = Vec::new();
        for n in 1..=numbers {
            let text = if n == 1 { text.clone() } else { format!("{text}~{n}") };
            let mut form = values.clone();
            form[column] = Value::text(&text);
            let still = |index| slot(schema, index, &form) == slot(schema, index, &first);
            if !accepts(schema, id, &form) || lost[..=at].iter().any(|index| still(*index)) {
                break; // Nor will a longer mark do.
            }
            forms.push(form);
        }
        if nullable {
            let mut form = values.clone();
            form[column] = Value::Null;
            forms.push(form);
        }
        let good = |form: &Vec<Value>| {
            let free = indexes(schema, id.table).into_iter().all(|index| {
                let now = slot(schema, index, form);
                if now == slot(schema, index, &first) {
                    !lost[..=at].contains(&index)
                } else {
                    now.is_none_or(|slot| !taken(&slot))
                }
            });
            free && accepts(schema, id, form)
        };
        values = forms.into_iter().find(good).ok_or(*index)?;
    }
    Ok(values)
}

/// f.
pub(super) fn letter(schema: &Schema, rows: &Rows) -> BTreeMap<RowId, Shown> {
    let mut in_order: Vec<&RowId> = rows.keys().collect();
    in_order.sort_by_key(|id| (rows[id].rank, id.birth, (*id).clone()));
    let mut true_claims: BTreeMap<Slot, RowId> = BTreeMap::new();
    let mut parked: BTreeMap<RowId, Reason> = BTreeMap::new();
    let mut losses: Vec<(RowId, Vec<Index>)> = Vec::new();
    let mut claim = |id: &RowId| -> Option<Reason> {
        let meant = &rows[id];
        if meant.life == Life::Unborn {
            return Some(Reason::Unborn);
        }
        let values = claiming(schema, id, meant);
        if !accepts(schema, id, &values) {
            return Some(Reason::Rejected);
        }
        let slots = slots(schema, id, &values);
        if let Some(by) = true_claims.get(&slots[0]) {
            return Some(Reason::KeyTaken { by: by.clone() });
        }
        let lost = slots.iter().filter(|slot| true_claims.contains_key(slot));
        let lost = lost.filter_map(|slot| match slot.unique {
            Unique::Index(index) => Some(index),
            Unique::Key(_) => None,
        });
        let lost: Vec<Index> = lost.collect();
        if let Err(index) = marked(schema, id, meant, &lost, &|_| false) {
            let slot = slot(schema, index, &values).unwrap();
            return Some(Reason::ValueTaken { index, by: true_claims[&slot].clone() });
        }
        for slot in slots {
            true_claims.entry(slot).or_insert(id.clone());
        }
        if !lost.is_empty() {
            losses.push((id.clone(), lost));
        }
        None
    };
    // A
    for id in in_order.iter().copied().filter(|id| rows[id].life != Life::Dead) {
        if let Some(reason) = claim(id) {
            parked.insert(id.clone(), reason);
        }
    }
    // B
    let mut kept: Vec<RowId> = Vec::new();
    loop {
        let needed = rows.iter().filter(|(id, meant)| match meant.life {
            Life::Live => !parked.contains_key(id),
            Life::Dead => kept.contains(id),
            Life::Unborn => false,
        });
        let needed: Vec<RowId> = needed
            .flat_map(|(_, meant)| &meant.references)
            .filter(|reference| schema.keeps_parent(reference.foreign_key) == Ok(true))
            .map(|reference| reference.parent.clone())
            .filter(|id| rows.get(id).is_some_and(|meant| meant.life == Life::Dead))
            .filter(|id| !kept.contains(id))
            .collect();
        if needed.is_empty() {
            break;
        }
        kept.extend(needed);
    }
    // C
    for id in in_order.iter().copied().filter(|id| kept.contains(id)) {
        if let Some(reason) = claim(id) {
            parked.insert(id.clone(), reason);
        }
    }
    // E
    let mut forms: BTreeMap<RowId, Vec<Value>> = BTreeMap::new();
    let mut marks: Vec<Slot> = Vec::new();
    for (id, lost) in losses {
        let taken = |slot: &Slot| true_claims.contains_key(slot) || marks.contains(slot);
        match marked(schema, &id, &rows[&id], &lost, &taken) {
            Ok(form) => {
                let before = slots(schema, &id, &claiming(schema, &id, &rows[&id]));
                let now = slots(schema, &id, &form);
                marks.extend(now.into_iter().filter(|slot| !before.contains(slot)));
                forms.insert(id, form);
            }
            Err(index) => {
                parked.insert(id, Reason::NoMark { index });
            }
        }
    }
    // D
    let visible = |id: &RowId, parked: &BTreeMap<RowId, Reason>| {
        let there = rows.get(id).is_some_and(|row| row.life != Life::Dead || kept.contains(id));
        there && !parked.contains_key(id)
    };
    let mut for_parents: BTreeMap<RowId, Reason> = BTreeMap::new();
    loop {
        let next = rows.iter().find(|(id, meant)| {
            let lacks = |parent: &RowId| !visible(parent, &parked);
            visible(id, &parked) && meant.references.iter().any(|to| lacks(&to.parent))
        });
        let Some((id, _)) = next else { break };
        parked.insert(id.clone(), Reason::Unborn);
        for_parents.insert(id.clone(), Reason::Unborn);
    }
    for (id, reason) in &mut for_parents {
        let lacking = rows[id].references.iter().find(|to| !visible(&to.parent, &parked));
        let to = lacking.unwrap();
        *reason = Reason::Parent { foreign_key: to.foreign_key, parent: to.parent.clone() };
    }
    parked.extend(for_parents);

    let shown = |id: &RowId, meant: &Meant| {
        if let Some(reason) = parked.get(id) {
            return Shown::Parked(reason.clone());
        }
        if meant.life == Life::Dead && !kept.contains(id) {
            return Shown::Hidden;
        }
        let values = forms.get(id).cloned().unwrap_or_else(|| claiming(schema, id, meant));
        let marks = (0..values.len()).filter(|at| values[*at] != meant.values[*at]);
        let marks = marks.map(|column| super::super::Mark {
            column,
            meant: meant.values[column].clone(),
            shown: values[column].clone(),
        });
        let marks = marks.collect();
        Shown::Visible { kept: meant.life == Life::Dead, values, marks }
    };
    rows.iter().map(|(id, meant)| (id.clone(), shown(id, meant))).collect()
}
