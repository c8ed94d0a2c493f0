//! How a [`View`] looks: three tables below each other, on a page as long as it takes. A terminal shows a part of it,
//! `--once` prints all of it.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row, Table, Widget};

use super::rates::Rate;
use super::units::{PerSecond, Size};
use super::view::{PeerRow, RingRow, SlotRow, View};

/// Characters of a bar.
const BAR: usize = 16;

/// A table and how wide its columns are.
struct Part {
    header: Vec<&'static str>,
    widths: Vec<Constraint>,
    rows: Vec<Row<'static>>,
}

impl Part {
    fn height(&self) -> u16 {
        u16::try_from(self.rows.len()).unwrap_or(u16::MAX).saturating_add(1)
    }
}

/// Draws the view on a page of this width.
pub fn page(title: &str, view: &View, width: u16) -> Buffer {
    let parts = [peers(&view.peers), rings(&view.rings), slots(&view.slots)];
    let heads = [Line::from(title.to_owned()).bold(), Line::from(view.what.clone()), summary(view)];
    let fixed = u16::try_from(heads.len()).unwrap_or(0);
    // One empty line before each table.
    let height = parts.iter().map(Part::height).fold(fixed, |sum, height| sum.saturating_add(height).saturating_add(1));
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    let mut y = 0;
    for head in heads {
        head.render(line(y, 1, width), &mut buffer);
        y += 1;
    }
    for part in parts {
        let height = part.height();
        let table = Table::new(part.rows, part.widths).header(Row::new(part.header).dim()).column_spacing(2);
        Widget::render(table, line(y.saturating_add(1), height, width), &mut buffer);
        y = y.saturating_add(height).saturating_add(1);
    }
    buffer
}

const fn line(y: u16, height: u16, width: u16) -> Rect {
    Rect { x: 0, y, width, height }
}

/// Messages through all rings together, and whether anything looks wrong.
fn summary(view: &View) -> Line<'static> {
    let known: Vec<Rate> = view.rings.iter().filter_map(|ring| ring.rate).collect();
    let sum = |number: fn(&Rate) -> f64| PerSecond((!known.is_empty()).then(|| known.iter().map(number).sum()));
    let messages = format!("{} messages/s sent, {} received", sum(|rate| rate.sent), sum(|rate| rate.received));
    let findings = match view.findings {
        0 => Span::raw("; nothing looks wrong"),
        count => Span::styled(format!("; fields that look wrong: {count} (inspect says which)"), Color::Red),
    };
    Line::from(vec![Span::raw(messages), findings])
}

fn peers(peers: &[PeerRow]) -> Part {
    let row = |peer: &PeerRow| {
        let PeerRow { name, state, process, last_seen, owns } = peer.clone();
        Row::new([name, state, process, last_seen, owns])
    };
    Part {
        header: vec!["peer", "state", "process", "last seen", "owns slots"],
        widths: [10, 29, 20, 12, 40].map(Constraint::Length).to_vec(),
        rows: peers.iter().map(row).collect(),
    }
}

fn rings(rings: &[RingRow]) -> Part {
    let row = |ring: &RingRow| {
        let rate = |number: fn(&Rate) -> f64| format!("{:>9}", PerSecond(ring.rate.as_ref().map(number)));
        Row::new([
            Cell::new(ring.name.clone()),
            Cell::new(bar(ring.depth, ring.capacity)),
            Cell::new(format!("{:>11}", format!("{} of {}", ring.depth, ring.capacity))),
            Cell::new(rate(|rate| rate.sent)),
            Cell::new(rate(|rate| rate.received)),
            Cell::new(ring.producer),
            Cell::new(ring.consumer),
        ])
    };
    Part {
        header: vec!["ring", "messages", "", "   sent/s", "   rcvd/s", "producer", "consumer"],
        widths: [10, 16, 14, 9, 9, 16, 16].map(Constraint::Length).to_vec(),
        rows: rings.iter().map(row).collect(),
    }
}

fn slots(slots: &[SlotRow]) -> Part {
    let row = |slots: &SlotRow| {
        let SlotRow { size: Size(_), total, free, allocated, in_flight, in_rings } = *slots;
        let used = u64::from(total.saturating_sub(free));
        let numbers = [total, free, allocated, in_flight, in_rings].map(|number| Cell::new(format!("{number:>9}")));
        let first = [Cell::new(slots.size.to_string()), Cell::new(bar(used, u64::from(total)))];
        Row::new(first.into_iter().chain(numbers))
    };
    Part {
        header: vec!["slots of", "in use", "    total", "     free", "allocated", "in flight", " in rings"],
        widths: [10, 16, 9, 9, 9, 9, 9].map(Constraint::Length).to_vec(),
        rows: slots.iter().map(row).collect(),
    }
}

/// How much of a whole. What is not nothing shows.
fn bar(part: u64, whole: u64) -> Line<'static> {
    let share = if whole == 0 { 0.0 } else { part.min(whole) as f64 / whole as f64 };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most BAR
    let full = (share * BAR as f64).ceil() as usize;
    let color = match share {
        share if share < 0.5 => Color::Green,
        share if share < 0.9 => Color::Yellow,
        _ => Color::Red,
    };
    let empty = Span::styled("·".repeat(BAR - full.min(BAR)), Style::new().dim());
    Line::from(vec![Span::styled("█".repeat(full), color), empty])
}

/// A page as text, without spaces at the ends of lines.
pub fn text(page: &Buffer) -> String {
    let area = page.area;
    let mut text = String::new();
    for y in area.top()..area.bottom() {
        let line: String =
            (area.left()..area.right()).filter_map(|x| page.cell((x, y))).map(|cell| cell.symbol()).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Seen to fail when: a bar is rounded down.
#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn view(rings: usize) -> View {
        let peer = |name: &str| PeerRow {
            name: name.to_owned(),
            state: "attached".to_owned(),
            process: "1234 running".to_owned(),
            last_seen: "-".to_owned(),
            owns: "1 of 4 MiB".to_owned(),
        };
        let ring = |number: usize| RingRow {
            name: format!("{number}→host"),
            depth: number as u64,
            capacity: 4,
            rate: (number != 1).then_some(Rate { sent: 1e6, received: 1234.0 }),
            producer: "awake",
            consumer: "waits for data",
        };
        let slots = SlotRow { size: Size(4096), total: 64, free: 16, allocated: 8, in_flight: 40, in_rings: 30 };
        View {
            what: "hub 1.0".to_owned(),
            peers: vec![peer("host"), peer("plugin 1")],
            rings: (0..rings).map(ring).collect(),
            slots: vec![slots],
            findings: 0,
        }
    }

    #[test]
    fn a_page_shows_every_row_with_its_numbers() {
        let expected = "\
somewhere
hub 1.0
2.00 M messages/s sent, 2.5 k received; nothing looks wrong

peer        state                          process               last seen     owns slots
host        attached                       1234 running          -             1 of 4 MiB
plugin 1    attached                       1234 running          -             1 of 4 MiB

ring        messages                             sent/s     rcvd/s  producer          consumer
0→host      ················       0 of 4        1.00 M      1.2 k  awake             waits for data
1→host      ████············       1 of 4             -          -  awake             waits for data
2→host      ████████········       2 of 4        1.00 M      1.2 k  awake             waits for data

slots of    in use                total       free  allocated  in flight   in rings
4 KiB       ████████████····         64         16          8         40         30
";
        assert_eq!(text(&page("somewhere", &view(3), 120)), expected);
    }

    #[test]
    fn what_looks_wrong_is_counted() {
        let view = View { findings: 3, rings: Vec::new(), ..view(0) };
        let text = text(&page("somewhere", &view, 120));
        assert!(
            text.contains("\n- messages/s sent, - received; fields that look wrong: 3 (inspect says which)\n"),
            "{text}"
        );
    }

    #[test]
    fn a_narrow_page_is_cut_and_nothing_else() {
        for width in [0, 1, 7, 40] {
            let page = page("somewhere", &view(2), width);
            assert_eq!(page.area.width, width);
            assert!(text(&page).lines().all(|line| line.chars().count() <= usize::from(width)));
        }
    }

    #[test]
    fn a_bar_is_empty_only_for_nothing() {
        let full = |part, whole| bar(part, whole).spans[0].content.chars().count();
        assert_eq!([full(0, 4), full(1, 1000), full(2, 4), full(4, 4), full(9, 4), full(0, 0)], [0, 1, 8, BAR, BAR, 0]);
    }
}
