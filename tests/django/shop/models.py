"""Models as any Django shop has them: keys that SQLite hands out, references, a many-to-many."""

from django.contrib.auth.models import User
from django.db import models


class Tag(models.Model):
    name = models.CharField(max_length=40)


class Product(models.Model):
    sku = models.CharField(max_length=20, unique=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.IntegerField(default=0)
    tags = models.ManyToManyField(Tag)


class Customer(models.Model):
    name = models.CharField(max_length=80)
    phone = models.CharField(max_length=20, blank=True)


class Order(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
    seller = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)
    number = models.CharField(max_length=40, unique=True)
    at = models.DateTimeField(auto_now_add=True)
    paid = models.BooleanField(default=False)


class Line(models.Model):
    order = models.ForeignKey(Order, related_name="lines", on_delete=models.CASCADE)
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField()
    note = models.CharField(max_length=40)
