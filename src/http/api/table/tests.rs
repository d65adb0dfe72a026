//! Every row is found, and nothing else.

use super::*;

#[test]
fn every_row_is_found_by_its_own_address() {
    for route in ROUTES {
        let names: Vec<&str> = names_in(route.path).collect();
        let path = route.path.replace(['{', '}'], "");
        let method = Method::from_bytes(route.method.as_bytes()).unwrap();
        assert_eq!(find(&method, &path), Found::Operation(route.operation, names), "{path}");
    }
}

#[test]
fn other_addresses_and_methods_are_told_apart() {
    let get = Method::GET;
    for path in ["/", "", "/api/", "/api/tasks/", "/api/tasks//logs", "/api/tasks/a/b", "/API/tasks", "*"] {
        assert_eq!(find(&get, path), Found::Nothing, "{path}");
    }
    assert_eq!(find(&Method::DELETE, "/api/tasks"), Found::OtherMethods("GET, HEAD".to_owned()));
    assert_eq!(find(&get, "/api/tasks/a/cancel"), Found::OtherMethods("POST".to_owned()));
    assert_eq!(find(&Method::DELETE, "/api/webhooks/stats"), Found::OtherMethods("GET, HEAD".to_owned()));
}
