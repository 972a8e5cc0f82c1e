//! What the sign-in form offers, by the configuration of the shop.

use std::collections::BTreeMap;

use super::lang::Lang;
use crate::kernel::LocalText;

/// What the sign-in form offers.
#[derive(Clone, Debug)]
pub struct SignInOptions {
    /// The shop's name; empty for a text that names none.
    pub shop_name: LocalText,
    /// Whether customers can sign in with their password.
    pub takes_passwords: bool,
    /// Whether customers can sign in at the shop, which hands them over.
    pub leads_to_shop: bool,
    /// Where customers who forgot their password get help.
    pub forgot_password_url: Option<String>,
    /// Where customers open an account.
    pub new_account_url: Option<String>,
}

impl Default for SignInOptions {
    /// As without any configuration: login and password.
    fn default() -> Self {
        Self {
            shop_name: LocalText::default(),
            takes_passwords: true,
            leads_to_shop: false,
            forgot_password_url: None,
            new_account_url: None,
        }
    }
}

impl SignInOptions {
    /// The texts of a language with the shop's name in them.
    pub(super) fn name_shop(
        &self,
        lang: Lang,
        mut texts: BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let unnamed = texts.remove("sign_in.the_shop").unwrap_or_default();
        let name = match self.shop_name.in_language(lang.tag()) {
            "" => &unnamed,
            name => name,
        };
        for text in texts.values_mut().filter(|text| text.contains("{shop}")) {
            *text = text.replace("{shop}", name);
        }
        texts
    }

    /// Whether a template's part of this name is shown.
    pub(super) fn has(&self, option: &str) -> bool {
        match option {
            "password" => self.takes_passwords,
            "shop" => self.leads_to_shop,
            "forgot_password" => self.takes_passwords && self.forgot_password_url.is_some(),
            "new_account" => self.new_account_url.is_some(),
            _ => panic!("`{option}` is no option of the sign-in"),
        }
    }

    /// The address behind a link of this name; empty where there is none.
    pub(super) fn link(&self, name: &str) -> &str {
        let url = match name {
            "forgot_password" => &self.forgot_password_url,
            "new_account" => &self.new_account_url,
            _ => panic!("`{name}` is no link of the sign-in"),
        };
        url.as_deref().unwrap_or_default()
    }
}
