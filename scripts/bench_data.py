#!/usr/bin/env python3
"""Seeded data for the benchmark: L, large files, and S, many small ones in the guide's tree.

    bench_data.py large|small FOLDER [--megabytes 1000] [--files 100000]

About 70 % of L's bytes are prices as CSV and predictions as JSON, 30 % are weights (32-bit floats, which hardly shrink).
"""
import argparse
import datetime
import json
import os
import random

MEGABYTE = 1 << 20
START = datetime.date(2013, 1, 2)


def csv(generator, size):
    """Daily bars that walk at random, about as compressible as real ones."""
    price, lines, length, day = 100.0, ["date,open,high,low,close,volume"], 0, 0
    while length < size:
        price = max(1.0, price * (1 + generator.gauss(0, 0.02)))
        high, low = price * (1 + abs(generator.gauss(0, 0.01))), price * (1 - abs(generator.gauss(0, 0.01)))
        date = START + datetime.timedelta(days=day % 30000)
        lines.append(f"{date},{price:.4f},{high:.4f},{low:.4f},{(high + low) / 2:.4f},{generator.randrange(10**6, 10**8)}")
        length += len(lines[-1]) + 1
        day += 1
    return ("\n".join(lines) + "\n").encode()[:size]


def prediction(generator, symbol):
    """One cached prediction, as the service writes it."""
    close = generator.uniform(10, 500)
    return json.dumps({
        "symbol": symbol, "current_price": round(close, 2), "predicted_price": round(close * generator.gauss(1, 0.01), 4),
        "predicted_return": generator.gauss(0, 0.01), "trading_signal": generator.choice(["BUY", "HOLD", "SELL"]),
        "interval": {"level": 0.8, "low": round(close * 0.97, 4), "high": round(close * 1.03, 4)},
        "as_of": str(START + datetime.timedelta(days=generator.randrange(4000))),
        "model": {"name": "nvda_lstm_model", "version": "2023-12-29", "sha256": f"{generator.getrandbits(256):064x}"},
    }).encode()


def weights(generator, size):
    """Floats of small magnitude: their exponents shrink a little, their digits do not."""
    import array
    block = array.array("f", (generator.gauss(0, 0.05) for _ in range(size // 16)))
    # Four differently scaled copies: as hard to compress as fresh ones and four times as fast to make.
    out = bytearray()
    for scale in (1.0, 1.37, 0.73, 1.91):
        out += array.array("f", (value * scale for value in block)).tobytes()
    return bytes(out[:size])


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def large(root, megabytes):
    """Files of 20 to 100 MB."""
    generator = random.Random(20231229)
    text = csv(generator, 4 * MEGABYTE) + b"\n".join(prediction(generator, "NVDA") for _ in range(4 * MEGABYTE // 420))
    floats = weights(generator, 8 * MEGABYTE)
    done, number = 0, 0
    while done < megabytes * MEGABYTE:
        size = min(generator.randrange(20, 100) * MEGABYTE, megabytes * MEGABYTE - done)
        is_text = generator.random() < 0.7
        parts, length = [], 0
        source = text if is_text else floats
        while length < size:
            # Slices from anywhere, with a fresh head: no long distance repeats that a real volume would not have.
            start = generator.randrange(len(source) - 65536)
            head = f"{generator.random():.12f}\n".encode() if is_text else generator.randbytes(64)
            parts.append(head + source[start:start + 65536])
            length += len(parts[-1])
        folder = "stock_data/historical" if is_text else "ml_models"
        write(f"{root}/{folder}/S{number:03}/{'bars.csv' if is_text else 'weights.bin'}", b"".join(parts)[:size])
        done, number = done + size, number + 1


def small(root, files):
    """The guide's tree: caches, predictions, histories, logs; 0.2 to 8 KB each."""
    generator = random.Random(20130102)
    bars = csv(generator, 2 * MEGABYTE)
    for number in range(files):
        symbol = f"S{generator.randrange(500):03}"
        kind = generator.random()
        if kind < 0.4:
            write(f"{root}/ml_cache/predictions_cache/{symbol}/{number:06}.json", prediction(generator, symbol))
        elif kind < 0.7:
            write(f"{root}/stock_data/predictions/daily/{symbol}/{number:06}.json", prediction(generator, symbol))
        elif kind < 0.95:
            start = generator.randrange(len(bars) - 8192)
            write(f"{root}/stock_data/cache/daily_cache/{symbol}/{number:06}.csv", bars[start:start + generator.randrange(1000, 8000)])
        else:
            write(f"{root}/scalers/feature_scalers/{symbol}/{number:06}.bin", generator.randbytes(generator.randrange(200, 4000)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["large", "small"])
    parser.add_argument("folder")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--files", type=int, default=100000)
    options = parser.parse_args()
    if options.kind == "large":
        large(options.folder, options.megabytes)
    else:
        small(options.folder, options.files)


main()
