//! Services and receivers by the names that operators type.

use super::{daemon::Config, nearest::nearest, service::Service};

impl Config {
    /// The service of this name; else a sentence with the nearest name there is.
    pub fn find_service(&self, name: &str) -> Result<&Service, String> {
        self.services.iter().find(|service| service.name == name).ok_or_else(|| {
            let near = nearest(name, self.services.iter().map(|service| service.name.as_str()));
            let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            format!("there is no service {name:?}{hint}; `hostprobe status` lists them")
        })
    }

    /// Why there is no receiver of this name, with the names that there are.
    pub fn no_receiver(&self, name: &str) -> String {
        let names: Vec<&str> = self.alerts.iter().filter_map(|alert| alert.name.as_deref()).collect();
        let near = nearest(name, names.iter().copied());
        let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        format!("there is no [[alert]] with the name {name:?}{hint}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_service_gets_the_nearest_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hostprobe.toml");
        std::fs::write(&file, "[[service]]\nname = \"orders-db\"\nunit = \"orders-db.service\"\n").unwrap();
        let config = Config::load(&file).unwrap();
        assert_eq!(config.find_service("orders-db").unwrap().name, "orders-db");
        let said = |name: &str| config.find_service(name).unwrap_err();
        let near =
            "there is no service \"order-db\" (did you mean `orders-db`?); `hostprobe status` lists them";
        assert_eq!(said("order-db"), near);
        assert_eq!(said("web"), "there is no service \"web\"; `hostprobe status` lists them");
    }
}
