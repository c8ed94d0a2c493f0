//! The terminal: taken over while `top` runs, given back as it was however it ends, and what its keys do.

use std::io;
use std::time::Instant;

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::style::Stylize;
use ratatui::text::Line;
use ratatui::widgets::Widget;
use ratatui::{DefaultTerminal, Frame};

/// The whole terminal. Dropped, or when this program panics, it is what it was before.
pub struct Screen {
    terminal: DefaultTerminal,
}

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Quit,
    /// As many lines down, or up.
    Scroll(i16),
    /// To the first line.
    Top,
    /// Nothing that concerns the program, but the screen may have another size by now.
    Redraw,
}

impl Screen {
    pub fn take() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                // It may have been half taken. That it cannot be given back is not what went wrong first.
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }

    /// Shows the page from a line on; returns which that is: a page has an end.
    pub fn show(&mut self, page: &Buffer, from: u16) -> io::Result<u16> {
        let mut first = from;
        self.terminal.draw(|frame| first = draw(frame, page, from))?;
        Ok(first)
    }

    /// Its width in characters.
    pub fn width(&self) -> io::Result<u16> {
        Ok(self.terminal.size()?.width)
    }

    /// The next wish before the deadline.
    pub fn wish(&self, deadline: Instant) -> io::Result<Option<Wish>> {
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            if !event::poll(rest)? {
                return Ok(None);
            }
            if let Some(wish) = wish(&event::read()?) {
                return Ok(Some(wish));
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing is left that could be told.
        let _ = ratatui::try_restore();
    }
}

/// What an event asks for.
fn wish(event: &Event) -> Option<Wish> {
    match event {
        Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, .. }) => {
            key(*code, *modifiers)
        }
        Event::Resize(..) => Some(Wish::Redraw),
        _ => None,
    }
}

const fn key(code: KeyCode, modifiers: KeyModifiers) -> Option<Wish> {
    match code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::Quit),
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
        KeyCode::Down | KeyCode::Char('j') => Some(Wish::Scroll(1)),
        KeyCode::Up | KeyCode::Char('k') => Some(Wish::Scroll(-1)),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(Wish::Scroll(10)),
        KeyCode::PageUp => Some(Wish::Scroll(-10)),
        KeyCode::Home => Some(Wish::Top),
        _ => None,
    }
}

/// As much of the page as there is room for, and a last line that says what the keys do. Returns the first line shown.
fn draw(frame: &mut Frame<'_>, page: &Buffer, from: u16) -> u16 {
    let area = frame.area();
    let room = area.height.saturating_sub(1);
    let first = from.min(page.area.height.saturating_sub(room));
    let buffer = frame.buffer_mut();
    for y in 0..room.min(page.area.height - first) {
        for x in 0..area.width.min(page.area.width) {
            let place = buffer.cell_mut((area.x + x, area.y + y));
            if let (Some(place), Some(cell)) = (place, page.cell((x, first + y))) {
                *place = cell.clone();
            }
        }
    }
    if area.height > 0 {
        let below = page.area.height - first - room.min(page.area.height - first);
        keys(below).dim().render(Rect { y: area.bottom() - 1, height: 1, ..area }, buffer);
    }
    first
}

fn keys(below: u16) -> Line<'static> {
    match below {
        0 => Line::from("q quits"),
        lines => Line::from(format!("q quits; {lines} more lines below: arrows, page up, page down")),
    }
}

/// Seen to fail when: the first line is not held back at the page's end; the last line of the screen is drawn over; Ctrl-C
/// is taken for a letter.
#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::page::{page, tests::view, text};
    use super::*;

    /// What a screen of that size shows from a line on, and which line that is.
    fn shown(width: u16, height: u16, from: u16) -> (u16, String) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let page = page("somewhere", &view(20), 120);
        let mut first = from;
        terminal.draw(|frame| first = draw(frame, &page, from)).unwrap();
        (first, text(terminal.backend().buffer()))
    }

    #[test]
    fn a_screen_shows_the_page_from_a_line_on_and_says_what_is_below() {
        let whole = text(&page("somewhere", &view(20), 120));
        let lines: Vec<&str> = whole.lines().collect();
        let (first, screen) = shown(120, 10, 4);
        assert_eq!(first, 4);
        assert_eq!(screen.lines().take(9).collect::<Vec<_>>(), lines[4..13]);
        let rest = format!("q quits; {} more lines below: arrows, page up, page down", lines.len() - 13);
        assert_eq!(screen.lines().last(), Some(rest.as_str()));
    }

    #[test]
    fn nobody_scrolls_past_the_end() {
        let lines = u16::try_from(text(&page("somewhere", &view(20), 120)).lines().count()).unwrap();
        let (first, screen) = shown(120, 10, u16::MAX);
        assert_eq!(first, lines - 9);
        assert_eq!(screen.lines().last(), Some("q quits"));
        assert_eq!(shown(120, 100, 3).0, 0);
    }

    #[test]
    fn a_screen_of_any_size_is_drawn() {
        for (width, height) in [(0, 0), (1, 1), (3, 2), (200, 1), (2, 100)] {
            shown(width, height, 1);
        }
    }

    #[test]
    fn keys_do_what_the_help_says() {
        let pressed = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)));
        let plain = KeyModifiers::NONE;
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(pressed(code, plain), Some(Wish::Quit));
        }
        assert_eq!(pressed(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Quit));
        assert_eq!(pressed(KeyCode::Char('c'), plain), None);
        assert_eq!(pressed(KeyCode::Up, plain), Some(Wish::Scroll(-1)));
        assert_eq!(pressed(KeyCode::PageDown, plain), Some(Wish::Scroll(10)));
        assert_eq!(pressed(KeyCode::Home, plain), Some(Wish::Top));
        assert_eq!(wish(&Event::Resize(1, 1)), Some(Wish::Redraw));
    }
}
