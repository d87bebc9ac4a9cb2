"""A Django application at one site of a shared database.

    shop_site.py DATABASE migrate                 makes the tables and what is sold
    shop_site.py DATABASE work SITE FROM TO       sells orders FROM..TO, and edits
    shop_site.py DATABASE check SITE COUNT ...    that every site's orders are there, as they were made

It stops at the first error that Django sees. The busy timeout is 5 s.
"""

import sys

import django
from django.conf import settings

database = sys.argv[1]
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.sessions",
        "shop",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": database,
            "OPTIONS": {"timeout": 5, "init_command": "PRAGMA journal_mode=WAL"},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    SECRET_KEY="not one",
    USE_TZ=True,
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.db.models import F  # noqa: E402
from shop.models import Customer, Line, Order, Product, Tag  # noqa: E402

SKUS = ["tea", "salt", "milk", "rice"]


def migrate():
    call_command("migrate", run_syncdb=True, verbosity=0)
    for sku in SKUS:
        Product.objects.create(sku=sku, price="1.50", stock=100_000)
    Customer.objects.create(name="Ann", phone="1")


def work(site, first, last):
    seller, _ = User.objects.get_or_create(username=f"seller at {site}")
    for n in range(first, last):
        with transaction.atomic():
            customer = Customer.objects.create(name=f"{site} {n}")
            order = Order.objects.create(customer=customer, seller=seller, number=f"{site}-{n}")
            products = [Product.objects.get(sku=SKUS[(n + k) % 4]) for k in range(2)]
            Line.objects.bulk_create(
                Line(order=order, product=product, quantity=1, note=f"{site}-{n}")
                for product in products
            )
            for product in products:
                Product.objects.filter(pk=product.pk).update(stock=F("stock") - 1)
        if n % 5 == 0:
            tag = Tag.objects.create(name=f"{site} {n}")
            Product.objects.get(sku="tea").tags.add(tag)
        # By the number that it was given: were it another by now, this would make the order anew.
        order.paid = True
        order.save()
        if n % 10 == 0:
            session = SessionStore()
            session["site"] = site
            session.save()
            User.objects.create_user(f"{site} {n}", password="x")


def check(*sites):
    for site, count in zip(sites[::2], map(int, sites[1::2])):
        orders = Order.objects.filter(number__startswith=f"{site}-")
        assert orders.count() == count, (site, orders.count(), count)
        assert orders.filter(paid=True).count() == count
        for order in orders.select_related("customer", "seller").prefetch_related("lines"):
            assert order.customer.name == order.number.replace("-", " "), order.number
            assert order.seller.username == f"seller at {site}", order.number
            notes = [line.note for line in order.lines.all()]
            assert notes == [order.number] * 2, (order.number, notes)
        tags = Product.objects.get(sku="tea").tags.filter(name__startswith=f"{site} ").count()
        assert tags == (count + 4) // 5, (site, tags)
        users = User.objects.filter(username__startswith=f"{site} ").count()
        assert users == (count + 9) // 10, (site, users)
    total = sum(map(int, sites[1::2]))
    assert Line.objects.count() == 2 * total, (Line.objects.count(), total)
    stock = sum(Product.objects.values_list("stock", flat=True))
    assert stock == 400_000 - 2 * total, stock
    connection.check_constraints()


match sys.argv[2]:
    case "migrate":
        migrate()
    case "work":
        work(sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    case "check":
        check(*sys.argv[3:])
