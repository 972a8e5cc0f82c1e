//! The visitor's pages: HTML, CSS, JavaScript and texts, embedded in the binary and rendered once at start.
//!
//! A page is a template in `html/` with these placeholders: `{{t:key}}` a text in the page's language,
//! escaped; `{{lang}}` the language; `{{current:ko}}` marks the language in use; `{{part:name}}` includes
//! `html/_name.html`; `{{asset:name}}` the address of a file; `{{words:a,b}}` the texts of those families as
//! a JSON data block for the page's scripts; `{{where:option:part}}` a part that only some configurations
//! have, and `{{link:name}}` a configured address.
//!
//! Nothing here knows HTTP, sales or queues: pages get what they show from the public API.

mod asset;
mod error;
mod lang;
mod sign_in_options;
mod site;
mod template;
#[cfg(test)]
mod tests;

pub use self::{
    asset::Asset,
    error::{ErrorPage, STATUSES},
    lang::Lang,
    sign_in_options::SignInOptions,
    site::{Page, Pages},
};
