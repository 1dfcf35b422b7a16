"""A hundred ways to damage a file: pairs of a name and the damaged bytes

Damage to bytes, and to contents with the old digest, must be noticed by the digest. Contents that make no sense and were written by the
library's own writer (named 'sealed') must be noticed by what they say: shapes, types, ranges, numbers that are not finite.
"""
import io,itertools,json,math,random,tempfile
from pathlib import Path
import safetensors.torch,torch

DEEP = 10**5 # brackets in brackets, more than any parser of JSON takes

# ---- any file ----
def flips(b, rng, where, n):
    "One bit each, of the first `where` bytes"
    for i in rng.sample(range(min(where, len(b))), min(n, where, len(b))):
        bit,res = rng.randrange(8),bytearray(b)
        res[i] ^= 1<<bit
        yield f'bit {bit} of byte {i}',bytes(res)

def cuts(b, rng):
    for n in sorted({0, 1, 7, 8, 9, len(b)//2, len(b)-1, *(rng.randrange(len(b)) for _ in range(4))}):
        if n<len(b): yield f'cut to {n}',b[:n]

def blocks(b, rng):
    "A block of zeros, or two blocks in each other's place"
    n = max(1, len(b)//20)
    for _ in range(5):
        i,j = sorted(rng.randrange(max(1, len(b)-n)) for _ in range(2))
        yield f'zeros at {i}',b[:i]+bytes(n)+b[i+n:]
        if j>=i+n: yield f'blocks {i} and {j} swapped',b[:i]+b[j:j+n]+b[i+n:j]+b[i:i+n]+b[j+n:]

def any_damage(b, rng):
    yield from flips(b, rng, len(b), 16)
    yield from flips(b, rng, 500, 12)
    yield from cuts(b, rng)
    yield from blocks(b, rng)
    for name,more in (('a zero', b'\0'), ('a brace', b'}'), ('itself', b), ('noise', rng.randbytes(1000))): yield f'{name} appended',b+more
    yield 'noise alone',rng.randbytes(len(b))
    yield 'zeros alone',bytes(len(b))

# ---- JSON, alone or in a safetensors file ----
NESTED = dict(list='['*DEEP+']'*DEEP, dict='{"a":'*DEEP+'1'+'}'*DEEP)
TEXTS = dict(nothing='', null='null', list='[]', dict='{}', text='"abc"', number='3', open='{', nan='NaN', digits='9'*5000,
             deep_list=NESTED['list'], deep_dict=NESTED['dict'], twice='{}{}')
VALUES = [None, -1, 'abc', [], {}, math.nan, math.inf, 10**18, .5, [[[[]]]], 'x'*10**6]

def paths(o, depth=3, at=()):
    "Where the values of nested dicts and lists are, but only the first of a list"
    if not depth: return
    items = o.items() if isinstance(o, dict) else enumerate(o[:1]) if isinstance(o, list) else ()
    for k,v in items:
        yield (*at, k)
        yield from paths(v, depth-1, (*at, k))

def replaced(o, path, value=None, drop=False):
    "A copy of nested dicts and lists with one value replaced or dropped"
    o = json.loads(json.dumps(o))
    inner = o
    for k in path[:-1]: inner = inner[k]
    if drop: del inner[path[-1]]
    else: inner[path[-1]] = value
    return o

def json_damage(o, rng, most):
    "Values of another kind, values that are missing, and one too many. Gives names and objects"
    found,where = [],list(paths(o))
    for path in where:
        name = '.'.join(map(str, path))
        found += [(f'meta.{name}={value!r:.20}', replaced(o, path, value)) for value in VALUES]
        found.append((f'meta.{name} missing', replaced(o, path, drop=True)))
    if isinstance(o, dict): found.append(('meta.unknown=1', o|dict(unknown=1)))
    return rng.sample(found, min(most, len(found)))

def sealed_json(o):
    "The bytes that the library writes for an object"
    from edf_nrr.basics import write_json
    with tempfile.TemporaryDirectory() as d:
        write_json(Path(d)/'o.json', o)
        return (Path(d)/'o.json').read_bytes()

def json_file(file, rng):
    from edf_nrr.basics import read_json
    for k,t in TEXTS.items(): yield f'text {k}',t.encode()
    yield 'not UTF-8',b'\xff\xfe'+file.read_bytes()
    yield 'UTF-16',file.read_text().encode('utf-16')
    for name,o in json_damage(json.loads(file.read_text()), rng, 25): yield name,json.dumps(o).encode()
    for name,o in json_damage(read_json(file), rng, 40): yield f'sealed {name}',sealed_json(o)

# ---- safetensors ----
def raw_file(head, data): return len(head).to_bytes(8, 'little')+head+data

def heads(b):
    "Headers that make no sense"
    n = int.from_bytes(b[:8], 'little')
    head,data = json.loads(b[8:8+n]),b[8+n:]
    for length in (0, 1, n-1, n+1, 10**8, 2**40, 2**63): yield f'header of {length} bytes',length.to_bytes(8, 'little')+b[8:]
    for k in ('list', 'dict'): yield f'header in deep {k}',raw_file(NESTED[k].encode(), data)
    first = next(k for k in head if k!='__metadata__')
    for k,v in dict(dtype='F128', shape=[2**40, 2**40], data_offsets=[0, 2**60]).items():
        yield f'header with {k}={v}',raw_file(json.dumps(head|{first: head[first]|{k: v}}).encode(), data)
    for k,t in TEXTS.items(): yield f'header with text {k}',raw_file(json.dumps(head|dict(__metadata__=dict(edf_nrr=t))).encode(), data)
    yield 'no description',raw_file(json.dumps({k: v for k,v in head.items() if k!='__metadata__'}).encode(), data)

def with_value(t, value):
    t = t.clone()
    t.view(-1)[len(t.view(-1))//2] = value
    return t

def tensor_changes(t):
    "What can be wrong with a tensor, and such a tensor"
    if t.is_floating_point() and t.numel():
        for v in (math.nan, math.inf, -math.inf): yield f'{v} in',with_value(t, v)
    if t.dtype in (torch.int64, torch.int32, torch.int16) and t.numel():
        for v in (-1, 30_000): yield f'{v} in',with_value(t, v)
    for dtype in (torch.float64, torch.float16, torch.int32, torch.bool):
        if dtype!=t.dtype: yield f'{str(dtype)[6:]} for',t.to(dtype)
    yield 'a dimension more in',t[None]
    if t.ndim:
        yield 'drop a row of',t[:-1].clone()
        yield 'no row of',t[:0].clone()
        yield 'double',torch.cat([t, t])
        if t.ndim>1: yield 'flattened',t.flatten()

def tensors_damage(tensors, rng, most):
    "Pairs of a name and tensors by name"
    found = []
    for k,t in tensors.items():
        found += [(f'{what} {k}', tensors|{k: o}) for what,o in tensor_changes(t)]
        found.append((f'missing {k}', {n: o for n,o in tensors.items() if n!=k}))
        found.append((f'renamed {k}', {n+'2' if n==k else n: o for n,o in tensors.items()}))
    found.append(('unknown tensor', tensors|dict(unknown=torch.zeros(3))))
    return rng.sample(found, min(most, len(found)))

def old_digest(tensors, head, rng, most):
    "Other contents under the old description: damage, or two tensors in each other's place"
    found = tensors_damage(tensors, rng, most)
    like = [(a, b) for a,b in itertools.combinations(tensors, 2) if tensors[a].shape==tensors[b].shape and tensors[a].dtype==tensors[b].dtype]
    found += [(f'{a} and {b} swapped', tensors|{a: tensors[b], b: tensors[a]}) for a,b in like if not torch.equal(tensors[a], tensors[b])][:5]
    return [(name, safetensors.torch.save(t, head)) for name,t in found]

def sealed_tensors(tensors, meta):
    "The bytes that the library writes for tensors and what belongs to them"
    from edf_nrr.basics import save_tensors
    with tempfile.TemporaryDirectory() as d:
        save_tensors(Path(d)/'o.safetensors', tensors, meta)
        return (Path(d)/'o.safetensors').read_bytes()

def tensors_file(file, rng):
    from edf_nrr.basics import load_tensors
    b = file.read_bytes()
    yield from heads(b)
    n = int.from_bytes(b[:8], 'little')
    head = json.loads(b[8:8+n])['__metadata__']
    tensors = dict(sorted(safetensors.torch.load(b).items())) # read in no order
    yield from old_digest(tensors, head, rng, 15)
    for name,o in json_damage(json.loads(head['edf_nrr']), rng, 15):
        yield name,safetensors.torch.save(tensors, head|dict(edf_nrr=json.dumps(o)))
    tensors,meta = load_tensors(file)
    tensors = dict(sorted(tensors.items()))
    for name,t in tensors_damage(tensors, rng, 35): yield f'sealed {name}',sealed_tensors(t, meta)
    for name,o in json_damage(meta, rng, 35): yield f'sealed {name}',sealed_tensors(tensors, o)

# ---- pictures and tables ----
def encoded(im, format):
    f = io.BytesIO()
    im.save(f, format)
    return f.getvalue()

def pictures(file, rng):
    "Other pictures of the same name"
    from PIL import Image
    im = Image.open(io.BytesIO(file.read_bytes()))
    format = im.format
    others = dict(smaller=im.resize((3, 3)), huge=im.resize((3000, 3000)), colour=im.convert('RGB').point(lambda v: v//2), alpha=im.convert('RGBA'),
                  mirrored=im.transpose(0), black=im.point(lambda v: 0))
    for k,o in others.items(): yield f'{k} picture',encoded(o, format)
    for k in ('GIF', 'BMP', 'TIFF', 'EPS'): yield f'{k} of that name',encoded(im.convert('RGB'), k)

def table_changes(t):
    import pyarrow as pa
    n = t.num_rows
    for k in t.column_names:
        i = t.column_names.index(k)
        yield f'no column {k}',t.drop_columns([k])
        yield f'renamed {k}',t.rename_columns([o+'2' if o==k else o for o in t.column_names])
        yield f'null in {k}',t.set_column(i, k, pa.array([None, *t[k].to_pylist()[1:]], t[k].type))
        for name,values in (('text', ['abc']*n), ('numbers', [-1]*n), ('fractions', [math.nan]*n), ('lists', [[1.]]*n)):
            yield f'{name} in {k}',t.set_column(i, k, pa.array(values))
    yield 'drop a row',t.slice(0, n-1)
    yield 'no row',t.slice(0, 0)
    yield 'double rows',pa.concat_tables([t, t])
    yield 'rows in another order',t.take(list(range(n))[::-1])
    for name,b in (('no', b''), ('noise for a', b'abc'), ('null', None)):
        yield f'{name} picture',t.set_column(0, 'image', pa.array([dict(bytes=b, path='')]*n, t['image'].type))

def table_file(file, rng):
    import pyarrow.parquet as pq
    t = pq.ParquetFile(file).read()
    def written(t):
        f = io.BytesIO()
        pq.write_table(t, f)
        return f.getvalue()
    for name,o in table_changes(t): yield name,written(o)
    meta = {k.decode(): v.decode() for k,v in t.schema.metadata.items()}
    yield 'no description',written(t.replace_schema_metadata({}))
    for k,text in TEXTS.items(): yield f'description {k}',written(t.replace_schema_metadata(meta|dict(edf_nrr=text)))
    for name,o in json_damage(json.loads(meta['edf_nrr']), rng, 40): yield name,written(t.replace_schema_metadata(meta|dict(edf_nrr=json.dumps(o))))

KINDS = {'.json': json_file, '.safetensors': tensors_file, '.parquet': table_file, '.png': pictures, '.webp': pictures}

def legal(kind, name):
    "Is this damage another proper file of its kind?"
    return name.startswith('sealed ') and any(o in name for o in kind.legal)

def all_damage(kind, file):
    "Pairs of a name and the damaged bytes, the same each time"
    rng,b,seen = random.Random(kind.__name__),file.read_bytes(),set()
    for name,o in (*any_damage(b, rng), *KINDS[file.suffix](file, rng)):
        if o==b or name in seen or legal(kind, name): continue
        seen.add(name)
        yield name,o
