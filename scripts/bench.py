#!/usr/bin/env python3
"""Ratios of the storage engine against the usual tools, side by side in one run.

    bench.py PREDICTOR FOLDER [--runs 5] [--megabytes 1000] [--files 100000] [--only WORD] [--million] [--four]

Each row runs both sides in turn, `runs` times, and compares the medians. Every command ends with a sync of its file
system. The page cache is warm: each side's input is read once before. Memory is the peak resident size of the process.
--million adds the memory of a report on 1,000,000 files, --four a full backup and restore of 4 GB, once.
Writes FOLDER/bench.md and bench.json, and prints the table.
"""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time


class Side:
    """One command, with what has to be done before each run."""

    def __init__(self, name, command, before=None):
        self.name, self.command, self.before = name, command, before

    def run(self, folder):
        """Seconds, and peak memory in KiB."""
        if self.before:
            self.before()
        subprocess.run(["sync", "-f", folder], check=True)
        started = time.monotonic()
        process = subprocess.Popen(["bash", "-c", f"set -e; exec 3>&1; {self.command}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        error = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        subprocess.run(["sync", "-f", folder], check=True)
        took = time.monotonic() - started
        if os.waitstatus_to_exitcode(status) != 0:
            sys.exit(f"{self.name}: {self.command}\n{error.decode()[-2000:]}")
        return took, usage.ru_maxrss


def empty(path):
    def act():
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
    return act


def remove(*paths):
    def act():
        for path in paths:
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif os.path.exists(path):
                os.remove(path)
    return act


class Bench:
    def __init__(self, options):
        self.options, self.rows = options, []
        self.folder = os.path.abspath(options.folder)
        self.predictor = os.path.abspath(options.predictor)
        self.restic = "restic"
        os.environ.update(RESTIC_PASSWORD="benchmark", RESTIC_CACHE_DIR=f"{self.folder}/restic-cache")

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def row(self, measure, ours, others, reach):
        """`reach` has, for each other side, the ratio wanted: theirs divided by ours."""
        if self.options.only and self.options.only not in measure:
            return None
        sides = [ours, *others]
        times, memory = {side.name: [] for side in sides}, {side.name: 0 for side in sides}
        for number in range(self.options.runs + 1):
            for side in sides:
                took, peak = side.run(self.folder)
                # The first round warms the page cache and isn't counted.
                if number > 0:
                    times[side.name].append(took)
                    memory[side.name] = max(memory[side.name], peak)
        median = {name: statistics.median(values) for name, values in times.items()}
        for other, wanted in zip(others, reach):
            self.rows.append({
                "measure": measure, "against": other.name, "ratio": round(median[other.name] / median[ours.name], 2), "reach": wanted,
                "ours_mib": round(memory[ours.name] / 1024, 1), "theirs_mib": round(memory[other.name] / 1024, 1),
                "spread": round(max(times[ours.name]) / min(times[ours.name]), 2),
            })
            print(self.rows[-1], flush=True)
        return memory

    def newest(self, destination):
        return sorted(name for name in os.listdir(destination) if name.startswith("stock_prediction_backup_") and name.endswith(".tar.gz"))[-1]

    def data(self):
        here = os.path.dirname(os.path.abspath(__file__))
        for name, arguments in (("large", ["--megabytes", str(self.options.megabytes)]), ("small", ["--files", str(self.options.files)])):
            root = self.path(name)
            if not os.path.exists(f"{root}/.stockpredictor/volume.json"):
                shutil.rmtree(root, ignore_errors=True)
                subprocess.run([sys.executable, f"{here}/bench_data.py", name, root, *arguments], check=True)
                subprocess.run([self.predictor, "storage", "setup", "--root", root], check=True, stdout=subprocess.DEVNULL)

    def backup(self, root, destination, *more):
        return f"{self.predictor} storage backup --root {root} --destination {destination} --keep-last 100 {' '.join(more)}"

    def run(self):
        self.data()
        parts = "ml_models ml_cache scalers stock_data config logs"
        large, small = self.path("large"), self.path("small")
        work = self.path("work")
        empty(work)()
        ours, tgz, pigz, repository = (os.path.join(work, name) for name in ("ours", "l.tgz", "p.tgz", "restic"))

        def new_repository():
            remove(repository)()
            subprocess.run([self.restic, "init", "-q", "-r", repository], check=True)

        memory = self.row("full backup L", Side("ours", self.backup(large, ours), empty(ours)), [
            Side("tar czf", f"tar czf {tgz} -C {large} {parts}", remove(tgz)),
            Side("tar -I 'pigz -p2'", f"tar -I 'pigz -p2' -cf {pigz} -C {large} {parts}", remove(pigz)),
        ], [7, 3])
        if memory:
            self.memory("full backup L", memory["ours"], Side("restic", f"cd {large} && {self.restic} backup -q -r {repository} {parts}", new_repository))
        if memory and os.path.exists(tgz):
            size = os.path.getsize(os.path.join(ours, self.newest(ours)))
            self.rows.append({"measure": "size of full backup L", "against": "gzip -6", "ratio": round(os.path.getsize(tgz) / size, 3), "reach": 1})
            print(self.rows[-1], flush=True)
        ours_s, tgz_s = os.path.join(work, "ours-s"), os.path.join(work, "s.tgz")
        memory = self.row("full backup S", Side("ours", self.backup(small, ours_s), empty(ours_s)), [
            Side("tar czf", f"tar czf {tgz_s} -C {small} {parts}", remove(tgz_s)),
            Side("restic", f"cd {small} && {self.restic} backup -q -r {repository} {parts}", new_repository),
        ], [4, 1.5])
        if memory:
            self.memory("full backup S", memory["ours"], memory["restic"])

        snapshot, first = os.path.join(work, "first.snar"), os.path.join(work, "first.tgz")
        empty(ours_s)()
        subprocess.run(["bash", "-c", f"{self.backup(small, ours_s)} >/dev/null && tar -g {snapshot} -czf {first} -C {small} {parts}"], check=True)
        new_repository()
        subprocess.run(["bash", "-c", f"cd {small} && {self.restic} backup -q -r {repository} {parts}"], check=True)
        copy, second = os.path.join(work, "second.snar"), os.path.join(work, "second.tgz")
        memory = self.row("incremental, nothing changed, S", Side("ours", self.backup(small, ours_s, "--mode incremental")), [
            Side("tar -g", f"tar -g {copy} -czf {second} -C {small} {parts}", lambda: shutil.copy(snapshot, copy)),
            Side("restic", f"cd {small} && {self.restic} backup -q -r {repository} {parts}"),
        ], [1 / 1.2, 5])
        if memory:
            self.memory("incremental, nothing changed, S", memory["ours"], memory["restic"])

        for label, root, destination, archive, reach in (("L", large, ours, tgz, 2), ("S", small, ours_s, tgz_s, 1.3)):
            empty(destination)()
            subprocess.run(["bash", "-c", f"{self.backup(root, destination)} >/dev/null; [ -e {archive} ] || tar czf {archive} -C {root} {parts}"], check=True)
            name = self.newest(destination)
            to, to_tar = os.path.join(work, "to"), os.path.join(work, "to-tar")
            restore = f"{self.predictor} storage restore {name} --from {destination} --to {to}"
            memory = self.row(f"restore {label}", Side("ours", restore, remove(to)), [Side("tar xzf", f"tar xzf {archive} -C {to_tar}", empty(to_tar))], [reach])
            if memory:
                new_repository()
                subprocess.run(["bash", "-c", f"cd {root} && {self.restic} backup -q -r {repository} {parts}"], check=True)
                self.memory(f"restore {label}", memory["ours"], Side("restic", f"{self.restic} restore latest -q -r {repository} --target {to_tar}", empty(to_tar)))
            remove(to, to_tar)()
            if label == "L":
                files = subprocess.run(["find", ".", "-type", "f", "-size", "-128M", "-size", "+90M"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
                files = sorted(path for path in files if "backups" not in path) or ["./ml_models/S000/weights.bin"]
                one = files[len(files) // 2][2:]
                self.row("one file out of L", Side("ours", f"{restore} --path {one}", remove(to)), [Side("tar xzf FILE", f"tar xzf {archive} -C {to_tar} {one}", empty(to_tar))], [25])
                remove(to, to_tar)()
                sums = os.path.join(work, "sums")
                subprocess.run(["bash", "-c", f"cd {work} && sha256sum {archive} > {sums}"], check=True)
                verify = f"{self.predictor} storage verify {name} --from {destination} --level"
                for level in ("stored", "readable"):
                    # restic reads and hashes every pack, as our deepest check of the bytes does.
                    memory = self.row(f"verify L, {level}", Side("ours", f"{verify} {level}"),
                                      [Side("gzip -t; sha256sum -c", f"gzip -t {archive}; sha256sum -c {sums}")], [3])
                    if memory:
                        self.memory(f"verify L, {level}", memory["ours"], Side("restic", f"{self.restic} check -q --read-data -r {repository}"))
        self.row("monitor S", Side("ours", f"{self.predictor} storage monitor --root {small} || [ $? -eq 3 ]"), [
            Side("du; find", f"du -sh {small} {small}/*; for part in {small}/*; do find $part -type f | wc -l; done")], [1.5])
        if self.options.million:
            self.million()
        if self.options.four:
            self.four(parts)
        self.report()

    def memory(self, measure, ours, theirs):
        """Peak memory in KiB beside restic's at the same work, which is run once where it has not been."""
        if isinstance(theirs, Side):
            theirs = theirs.run(self.folder)[1]
        self.rows.append({"measure": f"memory, {measure}", "against": "restic", "ratio": round(theirs / ours, 2), "reach": 3,
                          "ours_mib": round(ours / 1024, 1), "theirs_mib": round(theirs / 1024, 1)})
        print(self.rows[-1], flush=True)

    def million(self):
        """A report on a million empty files: memory must not grow with their number."""
        root = self.path("million")
        if not os.path.exists(f"{root}/.stockpredictor/volume.json"):
            subprocess.run([self.predictor, "storage", "setup", "--root", root], check=True, stdout=subprocess.DEVNULL)
        for number in range(1000):
            folder = f"{root}/ml_cache/predictions_cache/{number:03}"
            if not os.path.isdir(folder):
                os.mkdir(folder)
                for file in range(1000):
                    os.close(os.open(f"{folder}/{file}", os.O_CREAT | os.O_WRONLY, 0o644))
        self.row("monitor, 1,000,000 files", Side("ours", f"{self.predictor} storage monitor --root {root} || [ $? -eq 3 ]"), [
            Side("du; find", f"du -sh {root} {root}/*; for part in {root}/*; do find $part -type f | wc -l; done")], [1.5])
        shutil.rmtree(root)

    def four(self, parts):
        """4 GB, one run each."""
        root, destination, archive = self.path("four"), self.path("work", "ours-4"), self.path("work", "four.tgz")
        to, to_tar = self.path("work", "to"), self.path("work", "to-tar")
        here = os.path.dirname(os.path.abspath(__file__))
        subprocess.run([sys.executable, f"{here}/bench_data.py", "large", root, "--megabytes", "4000"], check=True)
        subprocess.run([self.predictor, "storage", "setup", "--root", root], check=True, stdout=subprocess.DEVNULL)
        runs, self.options.runs = self.options.runs, 1
        self.row("full backup, 4 GB, once", Side("ours", self.backup(root, destination), empty(destination)),
                 [Side("tar czf", f"tar czf {archive} -C {root} {parts}", remove(archive))], [7])
        shutil.rmtree(root)
        restore = f"{self.predictor} storage restore {self.newest(destination)} --from {destination} --to {to}"
        self.row("restore, 4 GB, once", Side("ours", restore, remove(to)), [Side("tar xzf", f"tar xzf {archive} -C {to_tar}", empty(to_tar))], [2])
        remove(to, to_tar, archive, destination)()
        self.options.runs = runs

    def report(self):
        peak = max(row.get("ours_mib", 0) for row in self.rows)
        lines = [
            f"{self.options.megabytes} MB in large files (L), {self.options.files} small files (S); {os.cpu_count()} cores; median of {self.options.runs};"
            f" page cache warm; every command followed by a sync; {platform.machine()}.", "",
            "| measure | against | ratio | wanted | memory, ours | theirs |", "| --- | --- | ---: | ---: | ---: | ---: |"]
        for row in self.rows:
            ours, theirs = (f"{row[key]} MiB" if key in row else "" for key in ("ours_mib", "theirs_mib"))
            lines.append(f"| {row['measure']} | {row['against']} | {row['ratio']}× | ≥ {round(row['reach'], 2)}× | {ours} | {theirs} |")
        lines += ["", f"Peak memory of any of our commands: {peak} MiB (wanted: at most 64)."]
        text = "\n".join(lines) + "\n"
        with open(self.path("bench.md"), "w", encoding="utf-8") as file:
            file.write(text)
        with open(self.path("bench.json"), "w", encoding="utf-8") as file:
            json.dump(self.rows, file, indent=1)
        print(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictor")
    parser.add_argument("folder")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--files", type=int, default=100000)
    parser.add_argument("--only", help="only rows whose measure has this text")
    parser.add_argument("--million", action="store_true", help="also a report on 1,000,000 files")
    parser.add_argument("--four", action="store_true", help="also 4 GB once")
    Bench(parser.parse_args()).run()


main()
