//! Three sites sell on one database, all of them offline, and meet again.

use tests::sales::{check, sell, three};
use tests::shop::wait_until_alike;
use tests::site::Home;

#[test]
fn three_sites_that_sold_500_each_offline_meet() {
    let home = Home::new();
    let mut shops = three(&home);
    for shop in &mut shops {
        shop.site.stop();
    }
    for shop in &shops {
        sell(shop, 0, 500);
    }
    for shop in &mut shops {
        shop.site.run();
    }
    wait_until_alike(&shops.each_ref());
    for shop in &shops {
        check(shop, 500);
    }
}
