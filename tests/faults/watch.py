"""Counts the file operations of this process below a folder, and at one of them dies as by SIGKILL, or fails as a full disk does

Patches stay: it is for a child that ends soon.
"""
import builtins,errno,io,os
from pathlib import Path

WRITES = os.O_WRONLY|os.O_RDWR|os.O_CREAT

class Writer:
    "A file open for writing, whose closing is an operation"
    def __init__(self, file, watch, path): self.file,self.watch,self.path = file,watch,path
    def __getattr__(self, k): return getattr(self.file, k)
    def __enter__(self): return self
    def __exit__(self, *args): self.close()
    def __iter__(self): return iter(self.file)
    def close(self):
        if not self.file.closed: self.watch.step('close', self.path, self.file.close, self.cut)
    def cut(self):
        self.file.flush()
        os.truncate(self.path, os.path.getsize(self.path)//2)

class Watch:
    "`at` the n-th operation, or one whose name holds a text, or of which a function of all names so far is true. `how`: 'before' it, 'after' it, or 'half' of what it writes is there"
    def __init__(self, root, at=None, how='before', error=None):
        self.root,self.at,self.how,self.error,self.seen = os.path.realpath(root),at,how,error,[]
        self.install()

    def ours(self, path):
        path = os.path.realpath(path)
        return path==self.root or path.startswith(self.root+os.sep)

    def here(self):
        if callable(self.at): return self.at(self.seen)
        return self.at in self.seen[-1] if isinstance(self.at, str) else len(self.seen)==self.at

    def act(self, name, path):
        if self.error is None: os._exit(137)
        code = getattr(errno, self.error)
        raise OSError(code, os.strerror(code), str(path))

    def step(self, name, path, do, cut=None):
        "Do an operation on `path`, unless it is the last one"
        if not self.ours(path): return do()
        self.seen.append(f'{name} {os.path.relpath(path, self.root)}')
        hit = self.here()
        if hit and self.how=='before': self.act(name, path)
        if hit and self.how=='half' and cut:
            cut()
            self.act(name, path)
        try: return do()
        finally:
            if hit: self.act(name, path)

    def install(self):
        "Patch everything that changes files"
        for name in ('replace', 'rename', 'link', 'unlink', 'remove', 'mkdir', 'rmdir', 'chmod', 'truncate', 'utime'): self.patch_os(name)
        self.patch_descriptors()
        self.patch_open()
        self.patch_libraries()

    def patch_os(self, name):
        f = getattr(os, name)
        def g(path, *args, dir_fd=None, **kwargs):
            more = dict(kwargs, dir_fd=dir_fd) if dir_fd is not None else kwargs
            if isinstance(path, int): return f(path, *args, **more)
            base = os.readlink(f'/proc/self/fd/{dir_fd}') if dir_fd is not None else ''
            return self.step(name, os.path.join(base, path), lambda: f(path, *args, **more))
        setattr(os, name, g)

    def patch_descriptors(self):
        fsync,opened = os.fsync,os.open
        def sync(fd):
            n = fd if isinstance(fd, int) else fd.fileno()
            return self.step('fsync', os.readlink(f'/proc/self/fd/{n}'), lambda: fsync(fd))
        def open_fd(path, flags, *args, **kwargs):
            do = lambda: opened(path, flags, *args, **kwargs)
            return self.step('os.open', path, do) if flags&WRITES else do()
        os.fsync,os.open = sync,open_fd

    def patch_open(self):
        original = io.open
        def opened(file, mode='r', *args, **kwargs):
            do = lambda: original(file, mode, *args, **kwargs)
            if isinstance(file, int) or not set('wxa+')&set(mode) or not self.ours(file): return do()
            return Writer(self.step('open', file, do), self, file)
        io.open = builtins.open = opened

    def patch_libraries(self):
        import pyarrow.parquet,safetensors.torch
        tensors,table = safetensors.torch.serialize_file,pyarrow.parquet.write_table
        def half(path, do):
            do()
            os.truncate(path, os.path.getsize(path)//2)
        def save(data, filename, *args, **kwargs):
            do = lambda: tensors(data, filename, *args, **kwargs)
            return self.step('tensors', filename, do, lambda: half(filename, do))
        def write(t, where, *args, **kwargs):
            do = lambda: table(t, where, *args, **kwargs)
            return self.step('table', where, do, lambda: half(where, do)) if isinstance(where, (str, Path)) else do()
        safetensors.torch.serialize_file,pyarrow.parquet.write_table = save,write
