#!/usr/bin/env python3
"""Faults at every system call that changes a volume: nothing lost, nothing mixed, and the next run succeeds.

    storage_faults.py PREDICTOR [--command NAME] [--kinds kill,EIO,ENOSPC] [--random N] [--seed N] [--sizes N]

With one thread every mutating call of every command is hit once by SIGKILL, EIO and ENOSPC (strace injects them). With
--random N calls of the parallel mode are killed at random. With --sizes N the commands run on tmpfs of N sizes (needs root).
After each fault: every archive under a final name is readable, the data is exactly the old or exactly the new state,
and the same command, run again, succeeds.
"""
import argparse
import concurrent.futures
import hashlib
import io
import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading

MUTATING = ("write pwrite64 writev fsync fdatasync syncfs rename renameat renameat2 unlink unlinkat rmdir mkdir mkdirat symlink symlinkat"
            " link linkat ftruncate fchmod fchmodat chmod fchown fchownat lchown utimensat copy_file_range fallocate openat openat2").split()
FAILING = {"write", "pwrite64", "writev", "fsync", "fdatasync", "syncfs", "rename", "renameat", "renameat2", "link", "linkat", "mkdir", "mkdirat", "openat", "openat2"}
OURS = {".stockpredictor", "backups", "lost+found", "monitoring"}
DAY = 86400
# The key pair that age's own tests use.
KEY = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
RECIPIENT = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
RESTORE = "5f1d7a56-0f7e-4c1e-8a68-5a3b1f1c7d03"
COMMANDS = ("setup", "backup", "incremental", "two", "restore", "chain", "sealed", "undo", "commit", "unpack", "cleanup", "put")
# Old or new, as one.
ATOMIC = ("restore", "chain", "sealed", "undo", "commit")


class Fault(Exception):
    """What must not happen."""


def tree(root, skip=OURS):
    """Everything below `root`, with type, mode, size, time and content."""
    found = {}
    for folder, names, files in os.walk(root):
        if folder == root:
            names[:] = [name for name in names if name not in skip and not name.startswith(".restore-")]
        for name in names + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            key = os.path.relpath(path, root)
            if stat.S_ISLNK(status.st_mode):
                found[key] = ("link", os.readlink(path))
            elif stat.S_ISDIR(status.st_mode):
                found[key] = ("directory", stat.S_IMODE(status.st_mode))
            else:
                with open(path, "rb") as file:
                    found[key] = ("file", stat.S_IMODE(status.st_mode), status.st_size, hashlib.sha256(file.read()).hexdigest())
    return found


def unfinished(path):
    """Whether it is a temporary file, or in a temporary folder: cleanup removes these."""
    return any(part.startswith(".") for part in path.split("/"))


def difference(left, right):
    keys = [key for key in sorted(set(left) | set(right)) if left.get(key) != right.get(key)]
    return ", ".join(f"{key}: {left.get(key)} / {right.get(key)}" for key in keys[:4])


class Volume:
    """A fixture, and one command on it."""

    def __init__(self, predictor, work):
        self.predictor, self.work = predictor, work
        self.environment = {**os.environ, "STOCKPREDICTOR_THREADS": "1", "NO_COLOR": "1"}
        self.base, self.changed = os.path.join(work, "base"), os.path.join(work, "changed")
        self.run("setup", "--root", self.base, "--samples")
        for number in range(6):
            self.put(self.base, f"ml_cache/predictions_cache/NVDA/{number}.json", b"{}" * 50 * (number + 1), 2 * DAY if number % 2 else 0)
        self.put(self.base, "logs/application.log", b"line\n" * 300)
        self.put(self.base, "logs/old.log", b"line\n" * 30, 40 * DAY)
        self.put(self.base, "stock_data/predictions/daily/NVDA/2020-01-02.json", b"{}", 60 * DAY)
        self.put(self.base, "notes/readme", b"mine")
        os.makedirs(f"{self.base}/ml_models/empty")
        os.symlink("../notes/readme", f"{self.base}/config/link")
        with open(f"{self.base}/ml_models/large.bin", "wb") as file:
            file.write(random.Random(1).randbytes(3 << 20))
        self.run("backup", "--root", self.base)
        self.archive = self.newest(self.base)
        shutil.copytree(self.base, self.changed, symlinks=True)
        self.change(self.changed)
        self.later = os.path.join(work, "later")
        shutil.copytree(self.base, self.later, symlinks=True)
        self.put(self.later, "config/later.json", b"{}")
        os.remove(f"{self.later}/logs/old.log")
        self.run("backup", "--root", self.later, "--mode", "incremental")
        self.increment = self.newest(self.later)
        self.change(self.later)
        self.seal()
        self.switch()
        with tarfile.open(os.path.join(work, "model.tar"), "w") as archive:
            version = f"{self.base}/ml_models/nvda_lstm_model"
            name = next(name for name in sorted(os.listdir(version)) if os.path.isdir(os.path.join(version, name)))
            self.version = name
            for file in sorted(os.listdir(os.path.join(version, name))):
                if os.path.isfile(os.path.join(version, name, file)):
                    with open(os.path.join(version, name, file), "rb") as source:
                        content = source.read()
                    entry = tarfile.TarInfo(file)
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))

    def copy(self, source, target):
        """With hard links, which a switched restore has."""
        subprocess.run(["cp", "-a", source, target], check=True, capture_output=True)

    def newest(self, root, ending=".tar.gz"):
        return sorted(name for name in os.listdir(f"{root}/backups") if name.endswith(ending))[-1]

    def seal(self):
        """A volume whose backup is encrypted."""
        self.key = os.path.join(self.work, "key.txt")
        with open(self.key, "w", encoding="ascii") as file:
            file.write(KEY + "\n")
        self.sealed = os.path.join(self.work, "sealed")
        self.copy(self.base, self.sealed)
        self.run("backup", "--root", self.sealed, "--encrypt-to", RECIPIENT)
        self.cipher = self.newest(self.sealed, ".age")
        self.change(self.sealed)

    def switch(self):
        """A volume on a restored state that waits for a decision, and on which the service has gone on."""
        self.switched = os.path.join(self.work, "switched")
        self.copy(self.changed, self.switched)
        outcomes = "stock_data/predictions/analysis"
        self.put(self.switched, f"{outcomes}/NVDA.jsonl", b'{"of":1}\n{"of":2}\n')
        with open(f"{self.switched}/backups/{self.archive}", "rb") as file:
            sha256 = hashlib.sha256(file.read()).hexdigest()
        for job in ("prepare", "switch"):
            document = {"version": 1, "job": job, "restore": RESTORE, "root": self.switched, "source": {"name": "volume", "path": "backups"},
                        "origin": {"namespace": "trading", "predictor": "nvda"}, "backup": self.archive, "sha256": sha256}
            self.run("job", "--job", json.dumps(document))
        self.append(self.switched, f"{outcomes}/NVDA.jsonl", b'{"of":3}\n')
        self.append(self.switched, f"{outcomes}/TSLA.jsonl", b'{"of":4}\n')
        self.append(self.switched, "logs/application.log", b"since the switch\n")
        self.append(self.switched, "logs/new/worker.log", b"since the switch\n")

    @staticmethod
    def append(root, path, content):
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "ab") as file:
            file.write(content)

    def change(self, root):
        """What a restore has to take back."""
        self.put(root, "config/ml_config.json", b'{"changed": true}\n')
        os.remove(f"{root}/notes/readme")
        self.put(root, "scalers/new.json", b"{}")
        shutil.rmtree(f"{root}/ml_cache/predictions_cache/NVDA")

    @staticmethod
    def put(root, path, content, age=0):
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        if age:
            moment = os.stat(path).st_mtime - age
            os.utime(path, (moment, moment))

    def run(self, *arguments, check=True, source=None):
        with open(source or os.devnull, "rb") as standard_input:
            done = subprocess.run([self.predictor, "storage", *arguments], stdin=standard_input, capture_output=True, text=True, env=self.environment, timeout=120, check=False)
        if check and done.returncode not in (0, 3):
            raise Fault(f"{arguments}: exit {done.returncode}: {done.stderr[-600:]}")
        return done

    def readable(self, root, folder=None):
        """Every archive under a final name is whole."""
        folder = folder or os.path.join(root, "backups")
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            if name.startswith("stock_prediction_backup_") and name.endswith((".tar.gz", ".age")):
                done = self.run("verify", name, "--root", root, "--from", folder, "--level", "readable", "--identity", self.key, check=False)
                if done.returncode not in (0, 3):
                    raise Fault(f"{name} is broken: {done.stdout[-300:]} {done.stderr[-300:]}")


class Command:
    """A command, the tree it starts from, and what holds after it was hit."""

    def __init__(self, volume, name):
        self.volume, self.name = volume, name
        self.fixture = {"setup": None, "restore": volume.changed, "chain": volume.later, "sealed": volume.sealed, "undo": volume.switched,
                        "commit": volume.switched}.get(name, volume.base)
        self.source = os.path.join(volume.work, "model.tar") if name == "put" else None
        self.old = tree(self.fixture) if self.fixture else {}
        clean = os.path.join(volume.work, f"clean-{name}")
        self.prepare(clean)
        volume.run(*self.arguments(clean), source=self.source)
        self.new = tree(clean)
        self.unpacked = self.out(clean)
        self.prepare(clean)
        shutil.rmtree(clean)

    def arguments(self, root):
        return {
            "setup": ["setup", "--root", root, "--samples"],
            "backup": ["backup", "--root", root, "--keep-last", "1"],
            "incremental": ["backup", "--root", root, "--mode", "incremental"],
            "two": ["backup", "--root", root, "--destination", f"{root}/backups", "--destination", f"{root}-out/second"],
            "restore": ["restore", self.volume.archive, "--root", root, "--yes"],
            "chain": ["restore", self.volume.increment, "--root", root, "--yes"],
            "sealed": ["restore", self.volume.cipher, "--root", root, "--yes", "--identity", self.volume.key],
            "undo": ["restore", "--undo", RESTORE, "--root", root],
            "commit": ["restore", "--commit", RESTORE, "--root", root],
            "unpack": ["restore", self.volume.archive, "--root", root, "--to", f"{root}-out/to"],
            "cleanup": ["cleanup", "--root", root],
            "put": ["put", f"ml_models/second/{self.volume.version}", "--root", root],
        }[self.name]

    @staticmethod
    def out(root):
        """What was unpacked into a folder outside the volume."""
        return tree(f"{root}-out/to") if os.path.isdir(f"{root}-out/to") else {}

    def prepare(self, root):
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(f"{root}-out", ignore_errors=True)
        if self.fixture:
            self.volume.copy(self.fixture, root)
        else:
            os.makedirs(root)
        if self.name == "two":
            os.makedirs(f"{root}-out")

    def check(self, root, exit_code):
        """The state after a fault, and that the command succeeds when it is run again."""
        volume = self.volume
        self.readable(root)
        if self.name in ATOMIC:
            # The next command says so and finishes or undoes it; one that waits for a decision goes on waiting.
            volume.run("test", "--root", root, check=self.name not in ("undo", "commit"))
            now = tree(root)
            if now not in (self.old, self.new):
                raise Fault(f"a mixture: old {difference(self.old, now)}; new {difference(self.new, now)}")
            if exit_code in (0, 3) and now != self.new:
                raise Fault(f"it said done, but: {difference(self.new, now)}")
            if self.name not in ("undo", "commit"):
                self.tidy(root)
        elif self.name in ("backup", "incremental", "two", "unpack"):
            if tree(root) != self.old:
                raise Fault(f"it changed the data: {difference(self.old, tree(root))}")
        else:
            # These go file by file: each is as before or as after, and nothing else is there but temporary files.
            for path, value in tree(root).items():
                if value in (self.old.get(path), self.new.get(path)) or unfinished(path):
                    continue
                raise Fault(f"{path} is neither old nor new: {value}")
            kept = {path for path in self.old if path in self.new} - set(tree(root))
            if kept:
                raise Fault(f"lost: {sorted(kept)[:4]}")
        if self.out(root) not in ({}, self.unpacked):
            raise Fault(f"unpacked in part: {difference(self.unpacked, self.out(root))}")
        if self.unpacked and self.out(root) == self.unpacked:
            # What is there is never replaced.
            return
        again = volume.run(*self.arguments(root), check=False, source=self.source)
        if again.returncode not in (0, 3):
            raise Fault(f"run again: exit {again.returncode}: {again.stderr[-400:]}")
        if self.unpacked and (self.out(root) != self.unpacked or os.listdir(f"{root}-out") != ["to"]):
            raise Fault(f"run again it leaves {os.listdir(f'{root}-out')}: {difference(self.unpacked, self.out(root))}")
        if self.name in ATOMIC:
            self.tidy(root)
        if self.name not in ("backup", "incremental", "two"):
            now = {path: value for path, value in tree(root).items() if not unfinished(path)}
            if now != self.new:
                raise Fault(f"run again it leaves: {difference(self.new, now)}")
        self.readable(root)

    def readable(self, root):
        if self.fixture:
            self.volume.readable(root)
        if self.name == "two":
            self.volume.readable(root, f"{root}-out/second")

    @staticmethod
    def tidy(root):
        if any(name.startswith(".restore-") for name in os.listdir(root)):
            raise Fault("a .restore- folder is left")

    def calls(self, root):
        """(call, number) of each mutating system call, in order."""
        log = root + ".strace"
        self.prepare(root)
        self.trace(root, ["-o", log, "-e", "trace=" + ",".join(MUTATING)])
        counts, found = {}, []
        with open(log, encoding="utf-8", errors="replace") as file:
            for line in file:
                match = re.match(r"(?:\d+ +)?(\w+)\(", line)
                if not match:
                    continue
                call = match.group(1)
                counts[call] = counts.get(call, 0) + 1
                if not call.startswith("openat") or "O_CREAT" in line:
                    found.append((call, counts[call]))
        return found

    def trace(self, root, options, threads="1"):
        with open(self.source or os.devnull, "rb") as standard_input:
            return subprocess.run(["strace", "-f", "-qq", *options, self.volume.predictor, "storage", *self.arguments(root)], stdin=standard_input,
                                  capture_output=True, env={**self.volume.environment, "STOCKPREDICTOR_THREADS": threads}, timeout=120, check=False).returncode

    def hit(self, root, call, number, kind, threads="1"):
        self.prepare(root)
        action = "signal=KILL" if kind == "kill" else f"error={kind}"
        log = root + ".strace"
        code = self.trace(root, ["-o", log, "-e", f"trace={call}", "-e", f"inject={call}:{action}:when={number}"], threads)
        try:
            self.check(root, code)
        except (Fault, subprocess.TimeoutExpired) as error:
            return f"{self.name}: {kind} at {call} {number}: {error}"
        finally:
            shutil.rmtree(root, ignore_errors=True)
        return None


def tmpfs(volume, sizes):
    """The commands on file systems from too small for anything to large enough, and again when there is room."""
    broken = []
    mount = os.path.join(volume.work, "tmpfs")
    os.makedirs(mount, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mount], capture_output=True, check=False).returncode:
        print("tmpfs: only root can mount one, so file systems that are too small are left out", flush=True)
        return []
    subprocess.run(["umount", mount], check=True)
    for name in ("setup", "backup", "incremental", "restore", "undo", "cleanup", "put"):
        command = Command(volume, name)
        used = int(subprocess.run(["du", "-sk", command.fixture], capture_output=True, check=True, text=True).stdout.split()[0]) if command.fixture else 600
        for number in range(sizes):
            # The largest has room for an archive or a new state.
            kilobytes = used + 4 + number * (8 << 10) // sizes
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", mount], check=True)
            try:
                root = os.path.join(mount, "volume")
                try:
                    command.prepare(root)
                except (OSError, subprocess.CalledProcessError):
                    continue
                done = volume.run(*command.arguments(root), check=False, source=command.source)
                if done.returncode not in (0, 1, 3) or (done.returncode == 1 and len(done.stderr) < 20):
                    raise Fault(f"exit {done.returncode}: {done.stderr[-200:]}")
                subprocess.run(["mount", "-o", "remount,size=1g", mount], check=True)
                command.check(root, done.returncode)
            except Fault as error:
                broken.append(f"{kilobytes} KiB, {name}: {error}")
            finally:
                subprocess.run(["umount", mount], check=True)
    return broken


def memory():
    """A folder in memory with room for all of this, if there is one: thousands of runs would wait for the disk."""
    folder = "/dev/shm"
    return folder if os.path.isdir(folder) and shutil.disk_usage(folder).free > 1 << 30 else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictor")
    parser.add_argument("--command", action="append", help="only this command (repeatable)")
    parser.add_argument("--kinds", default="kill,EIO,ENOSPC")
    parser.add_argument("--random", type=int, default=0, help="kills at random in the parallel mode, for each command")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sizes", type=int, default=0, help="sizes of tmpfs")
    options = parser.parse_args()
    generator = random.Random(options.seed)
    broken, done = [], 0
    with tempfile.TemporaryDirectory(dir=memory()) as work:
        volume = Volume(os.path.abspath(options.predictor), work)
        names = threading.local()

        def attempt(job):
            command, *rest = job
            if not hasattr(names, "root"):
                names.root = tempfile.mkdtemp(dir=work)
            return command.hit(os.path.join(names.root, "volume"), *rest)

        for name in options.command or COMMANDS:
            command = Command(volume, name)
            calls = command.calls(os.path.join(work, "count"))
            jobs = []
            if options.random == 0:
                for kind in options.kinds.split(","):
                    jobs += [(command, call, number, kind) for call, number in calls if kind == "kill" or call in FAILING]
            for _ in range(options.random):
                call, number = generator.choice(calls)
                jobs.append((command, call, number, "kill", "4"))
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                results = [result for result in pool.map(attempt, jobs) if result]
            done += len(jobs)
            broken += results
            print(f"{name}: {len(jobs)} faults at {len(calls)} calls, {len(results)} with damage", flush=True)
            for result in results[:5]:
                print(f"  {result}", flush=True)
        if options.sizes:
            found = tmpfs(volume, options.sizes)
            print(f"tmpfs: {options.sizes} sizes, {len(found)} with damage", flush=True)
            broken += found
    print(json.dumps({"faults": done, "damage": broken[:20]}))
    sys.exit(1 if broken or not done + options.sizes else 0)


main()
