//! Tickets: one signed JWT per seat, and its QR code.

use qrcode::{EcLevel, QrCode, render::svg};
use serde::{Deserialize, Serialize};

use crate::{
    checkout::{
        ledger::port::{NewTicket, TicketRow},
        order::Order,
    },
    kernel::{Entropy, OrderId, PerformanceId, SaleId},
    platform::{
        keys::Keys,
        signing::{TokenError, VerifyingKeys, base64url},
    },
};

const TYP: &str = "ticket+jwt";
/// Longest text that is verified as a ticket, in bytes.
const CODE_MAX: usize = 4_096;
/// White modules around a QR code (ISO/IEC 18004 asks for four).
const QUIET_ZONE: u32 = 4;
const PIXELS_PER_MODULE: u32 = 6;

/// A ticket as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Ticket {
    /// Random id of the ticket.
    pub id: String,
    /// Seat id of the plan.
    pub seat: String,
    /// Section label.
    pub section: String,
    /// Row label.
    pub row: String,
    /// Seat number within the row.
    pub number: String,
    /// The performance.
    pub performance: PerformanceId,
    /// The JWT that is scanned at the entrance.
    pub code: String,
}

/// Claims of a ticket's JWT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketClaims {
    /// Issuer: the public base URL.
    pub iss: String,
    /// Id of the ticket.
    pub sub: String,
    /// The order.
    pub order: OrderId,
    /// The sale.
    pub sale: SaleId,
    /// The performance.
    pub performance: PerformanceId,
    /// Seat id of the plan.
    pub seat: String,
    /// Section label.
    pub section: String,
    /// Row label.
    pub row: String,
    /// Seat number within the row.
    pub number: String,
    /// Time of issue, in seconds since the Unix epoch.
    pub iat: i64,
}

/// One new ticket with a random id per seat of the order.
pub(super) fn new_tickets(order: &Order, entropy: &dyn Entropy) -> Vec<NewTicket> {
    let new_ticket = |seat: &str| {
        let mut id = [0; 16];
        entropy.fill(&mut id);
        NewTicket {
            id: base64url(&id),
            seat: seat.to_owned(),
        }
    };
    order.seats.iter().map(|seat| new_ticket(&seat.guid)).collect()
}

/// Signs the tickets of a paid order.
pub(super) fn sign_tickets(keys: &Keys, issuer: &str, order: &Order, rows: Vec<TicketRow>) -> Vec<Ticket> {
    rows.into_iter()
        .filter_map(|row| {
            let seat = order.seats.iter().find(|seat| seat.guid == row.seat)?;
            let claims = TicketClaims {
                iss: issuer.to_owned(),
                sub: row.id.clone(),
                order: order.id,
                sale: order.performance_key.sale.clone(),
                performance: order.performance_key.performance.clone(),
                seat: row.seat.clone(),
                section: seat.section.clone(),
                row: seat.row.clone(),
                number: seat.number.clone(),
                iat: row.issued_at.as_secs(),
            };
            Some(Ticket {
                id: row.id,
                seat: row.seat,
                section: claims.section.clone(),
                row: claims.row.clone(),
                number: claims.number.clone(),
                performance: claims.performance.clone(),
                code: keys.ticket.sign(TYP, &claims),
            })
        })
        .collect()
}

/// The claims of a ticket's code, if one of these keys signed it. Only the ledger knows whether it was voided
/// since.
///
/// # Errors
/// [`TokenError`] if it is not a ticket signed by one of the keys.
pub fn verify_ticket(keys: &VerifyingKeys, code: &str) -> Result<TicketClaims, TokenError> {
    if code.len() > CODE_MAX {
        return Err(TokenError::Malformed);
    }
    keys.verify(TYP, code)
}

/// The QR code of a ticket as SVG. Empty if the code is too long (more than about 2,900 bytes).
#[must_use]
pub fn qr_svg(code: &str) -> String {
    let Some(qr) = qr(code) else { return String::new() };
    qr.render::<svg::Color<'_>>()
        .min_dimensions(240, 240)
        .dark_color(svg::Color("#000"))
        .light_color(svg::Color("#fff"))
        .build()
}

/// The QR code of a ticket as a PNG with one bit per pixel. Empty if the code is too long.
#[must_use]
pub fn qr_png(code: &str) -> Vec<u8> {
    let Some(qr) = qr(code) else { return Vec::new() };
    let modules = u32::try_from(qr.width()).unwrap_or(0);
    let side = (modules + 2 * QUIET_ZONE) * PIXELS_PER_MODULE;
    let dark: Vec<bool> = qr
        .to_colors()
        .into_iter()
        .map(|color| color == qrcode::Color::Dark)
        .collect();
    let is_dark = |x: u32, y: u32| {
        let module = |at: u32| {
            (at / PIXELS_PER_MODULE)
                .checked_sub(QUIET_ZONE)
                .filter(|index| *index < modules)
        };
        matches!((module(x), module(y)), (Some(x), Some(y)) if dark[(y * modules + x) as usize])
    };
    let row_bytes = side.div_ceil(8);
    let mut pixels = vec![0xff_u8; (row_bytes * side) as usize];
    for (x, y) in (0..side)
        .flat_map(|y| (0..side).map(move |x| (x, y)))
        .filter(|(x, y)| is_dark(*x, *y))
    {
        pixels[(y * row_bytes + x / 8) as usize] &= !(0x80 >> (x % 8));
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let written = encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&pixels));
    written.expect("an image of the right size can be written to memory");
    file
}

/// A signed ticket is long. Error correction level L keeps its modules large enough for a scratched screen at
/// arm's length.
fn qr(code: &str) -> Option<QrCode> {
    QrCode::with_error_correction_level(code, EcLevel::L).ok()
}
