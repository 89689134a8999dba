#!/usr/bin/env python3
"""Trains the default model anew and compares it with the committed one.

    retrain_check.py PREDICTOR [COMMITTED [DATA]]

On the processor that the committed model was trained on, model and report are the same byte for byte. Another processor
may round differently; there the figures of the report are compared within a tolerance, and that is said.
"""
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

# Where `predictor train` gave the committed bytes: vendor, family and model of /proc/cpuinfo, and whether it has AVX-512,
# which decides how sums are ordered.
TRAINED_ON = ("AuthenticAMD", "25", "17", True)
FILES = ("model.onnx", "scaler.json", "golden.json", "model_config.json", "report/report.json", "report/report.md", "report/forecasts.csv")
# More than other seeds differ by (docs/model.md), and they differ by more than rounding does.
TOLERANCES = {"mae_ratio": 0.003, "interval.coverage": 0.012, "direction.accuracy": 0.02}


def processor():
    """What this machine has, as far as rounding may depend on it."""
    fields = {}
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    return (fields.get("vendor_id"), fields.get("cpu family"), fields.get("model"), "avx512f" in fields.get("flags", "").split())


def figure(report, path):
    """The figure of all symbols together at a dotted path."""
    value = report["pooled"]
    for name in path.split("."):
        value = value[name]
    return value


def deviations(committed, trained):
    """What differs more than rounding explains."""
    old, new = (json.loads((folder / "report/report.json").read_text(encoding="utf-8")) for folder in (committed, trained))
    if figure(old, "n") != figure(new, "n"):
        yield f"n is {figure(new, 'n')} instead of {figure(old, 'n')}"
    for path, tolerance in TOLERANCES.items():
        if abs(figure(old, path) - figure(new, path)) > tolerance:
            yield f"{path} is {figure(new, path):.4f} instead of {figure(old, path):.4f} (± {tolerance})"


def main():
    """Trains and compares."""
    predictor = sys.argv[1]
    model = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "predictor/default_model/nvda_lstm_model")
    data = sys.argv[3] if len(sys.argv) > 3 else "examples/data"
    version = (model / "current").read_text(encoding="utf-8").strip()
    committed = model / version
    config = json.loads((committed / "model_config.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch) / config["name"]
        subprocess.run(
            [predictor, "train", "--data", data, "--symbols", ",".join(config["symbols"]), "--seed", str(config["seed"]), "--out", out],
            check=True, timeout=3600)
        trained = out / version
        if not trained.is_dir():
            sys.exit(f"retraining gave the versions {sorted(path.name for path in out.iterdir())} instead of {version}")
        different = [name for name in FILES if (committed / name).read_bytes() != (trained / name).read_bytes()]
        digest = hashlib.sha256((trained / "model.onnx").read_bytes()).hexdigest()
        if not different:
            print(f"retrained {model.name} {version}: the same byte for byte (model.onnx {digest})")
        elif processor() == TRAINED_ON:
            sys.exit(f"retraining on the processor of the committed model gave other bytes: {', '.join(different)}; "
                     "train and commit it anew (make train, docs/model.md), or find out what changed the arithmetic")
        elif wrong := list(deviations(committed, trained)):
            sys.exit(f"the retrained model is another one than the committed: {'; '.join(wrong)}")
        else:
            print(f"retrained {model.name} {version}: not the same bytes ({', '.join(different)}), as may be on another processor "
                  f"than {TRAINED_ON}; this one is {processor()}. The report's figures agree within {TOLERANCES}")


if __name__ == "__main__":
    main()
