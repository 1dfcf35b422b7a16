"Images of all kinds are read as they are to be seen, and files that are none, or too large, are refused by name"
import io,struct,subprocess,sys,zlib
import numpy as np, pytest
from PIL import Image,ImageFile,ImageOps
from edf_nrr import files
from edf_nrr.files import Files, decode, image_folder, open_header, parquet

def fails(match): return pytest.raises(ValueError, match=match)
def pixels(f): return decode(f).permute(1, 2, 0).numpy()
def noise(*shape, top=256, dtype=np.uint8, seed=0): return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)

def saved(im, format, **kwargs):
    f = io.BytesIO()
    im.save(f, format, **kwargs)
    return f.getvalue()

def png(rows, depth, colour, transparent=None):
    "A PNG file of raw rows of bytes, with a grey or colour marked as transparent"
    def chunk(kind, data): return struct.pack('>I', len(data))+kind+data+struct.pack('>I', zlib.crc32(kind+data))
    h,w = rows.shape[:2]
    head = chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, depth, colour, 0, 0, 0))
    marked = b'' if transparent is None else chunk(b'tRNS', transparent)
    return b'\x89PNG\r\n\x1a\n'+head+marked+chunk(b'IDAT', zlib.compress(b''.join(b'\0'+o.tobytes() for o in rows)))+chunk(b'IEND', b'')

# ---- ordinary images ----
@pytest.mark.parametrize('format', ['PNG', 'BMP', 'TIFF', 'PPM', 'JPEG', 'WEBP', 'GIF'])
@pytest.mark.parametrize('mode', ['RGB', 'L', '1', 'P'])
def test_ordinary_bits(format, mode):
    "What PIL reads rightly is read as PIL reads it"
    im = Image.fromarray(noise(9, 12, 3)).convert(mode)
    if mode=='P' and format in ('JPEG', 'PPM'): im = im.convert('RGB')
    b = saved(im, format)
    done = []
    assert np.array_equal(decode(b, done=done).permute(1, 2, 0).numpy(), np.asarray(Image.open(io.BytesIO(b)).convert('RGB'))) and not done
    for how,fit in (('squash', lambda o: o.resize((7, 7), Image.BILINEAR)), ('crop', lambda o: ImageOps.fit(o, (7, 7), Image.BILINEAR))):
        assert np.array_equal(decode(b, 7, how).permute(1, 2, 0).numpy(), np.asarray(fit(Image.open(io.BytesIO(b)).convert('RGB'))))

def test_opaque_alpha_keeps_bits():
    a = noise(9, 12, 4)
    a[...,3] = 255
    done = []
    assert np.array_equal(decode(saved(Image.fromarray(a), 'PNG'), done=done).permute(1, 2, 0).numpy(), a[...,:3]) and not done

# ---- conversions ----
@pytest.mark.parametrize('format', ['PNG', 'TIFF', 'PPM'])
def test_grey_of_16_bits(format):
    a = noise(40, 50, top=65536, dtype=np.uint16)
    assert np.array_equal(pixels(saved(Image.fromarray(a), format)), np.round(a/257)[...,None].repeat(3, 2))

def test_grey_of_16_bits_in_other_byte_order():
    a = noise(40, 50, top=65536, dtype=np.uint16)
    for order in '<>':
        head = dict(II=b'II*\0', MM=b'MM\0*')['II' if order=='<' else 'MM']
        tags = [(256, 3, 50), (257, 3, 40), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 3, 40), (279, 4, 4000)]
        def entry(t, kind, v): return struct.pack(f'{order}HHI', t, kind, 1)+(struct.pack(f'{order}HH', v, 0) if kind==3 else struct.pack(f'{order}I', v))
        ifd = struct.pack(f'{order}H', len(tags))+b''.join(entry(*o) for o in tags)+b'\0'*4
        b = head+struct.pack(f'{order}I', 4008)+a.astype(f'{order}u2').tobytes()+ifd
        assert np.array_equal(pixels(b)[...,0], np.round(a/257)), order

def test_grey_of_32_bits_and_floats():
    a = noise(40, 50, top=65536, dtype=np.int32)
    a[0,0] = 0
    assert np.array_equal(pixels(saved(Image.fromarray(a), 'TIFF'))[...,0], np.round(a/257))
    f = np.random.default_rng(0).random((40, 50), dtype=np.float32)
    assert np.array_equal(pixels(saved(Image.fromarray(f), 'TIFF'))[...,0], np.round(f*255))
    for bad in (a-1, a+1_000_000, f+.5, f-.5, f*np.nan):
        with fails(r'x\.tif has grey values .* only 0 to'): decode(saved(Image.fromarray(bad), 'TIFF'), name='x.tif')

@pytest.mark.parametrize('format', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation(format, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    b = saved(Image.fromarray(noise(9, 12, 3)), format, exif=exif)
    want = ImageOps.exif_transpose(Image.open(io.BytesIO(b)))
    assert np.array_equal(pixels(b), np.asarray(want.convert('RGB'))) and (want.size==(12, 9))==(orientation<5)

def test_broken_exif_is_no_orientation():
    a = noise(9, 12, 3)
    assert np.array_equal(pixels(saved(Image.fromarray(a), 'PNG', exif=b'Exif\0\0junk of no use')), a)

def test_turned_sets_have_the_turned_shape(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(noise(9, 12, 3)).save(tmp_path/'a.png', exif=exif)
    Image.fromarray(noise(12, 9, 3)).save(tmp_path/'b.png')
    assert Files([tmp_path/'a.png', tmp_path/'b.png']).batch([0, 1]).shape==(2, 3, 12, 9)

def on_white(rgb, alpha): return rgb*(alpha/255)+255*(1-alpha/255)

@pytest.mark.parametrize('format', ['PNG', 'TIFF', 'WEBP'])
def test_alpha(format):
    a = noise(30, 40, 4)
    b = saved(Image.fromarray(a), format, **(dict(lossless=True, exact=True) if format=='WEBP' else {}))
    assert np.abs(pixels(b)-on_white(a[...,:3].astype(float), a[...,3:])).max() <= 1

def test_grey_with_alpha():
    a = noise(30, 40, 2)
    assert np.abs(pixels(saved(Image.fromarray(a, 'LA'), 'PNG'))-on_white(a[...,:1].astype(float), a[...,1:])).max() <= 1

@pytest.mark.parametrize('format', ['PNG', 'GIF'])
def test_palette_with_transparency(format):
    a = noise(30, 40, top=4)
    im = Image.fromarray(a, 'P')
    im.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    colours = np.array([[255]*3, [200, 0, 0], [0, 200, 0], [0, 0, 200]])
    assert np.array_equal(pixels(saved(im, format, transparency=0)), colours[a])

def test_marked_greys_and_colours():
    a = noise(30, 40, top=4)
    white = np.where(a==2, 255, a)
    assert np.array_equal(pixels(png(a, 8, 0, struct.pack('>H', 2)))[...,0], white)
    rgb = np.stack([a, a, a], 2)
    assert np.array_equal(pixels(png(rgb, 8, 2, struct.pack('>HHH', 2, 2, 2)))[...,0], white)
    deep = np.array([0, 1, 40_000, 65_535], dtype='>u2')[a]
    want = np.where(a==2, 255, np.round(deep/257))
    assert np.array_equal(pixels(png(deep, 16, 0, struct.pack('>H', 40_000)))[...,0], want)

@pytest.mark.parametrize('format', ['JPEG', 'TIFF'])
def test_cmyk(format):
    im = Image.new('CMYK', (12, 9), (0, 255, 255, 0))
    assert np.abs(pixels(saved(im, format)).astype(int)-[255, 0, 0]).max() <= 3

def mixed():
    "Encoded images of every kind, for the two classes in turn"
    exif = Image.Exif()
    exif[0x112] = 6
    clear = noise(9, 12, 4)
    yield from (saved(Image.fromarray(noise(9, 12, 3, seed=i)), 'PNG') for i in range(6))
    yield from (saved(Image.fromarray(noise(9, 12, top=65536, dtype=np.uint16)), 'PNG') for _ in range(3))
    yield from (saved(Image.fromarray(noise(9, 12, 3)), 'PNG', exif=exif) for _ in range(2))
    yield from (saved(Image.fromarray(clear), 'PNG', exif=e) for e in (None, exif, None))

LINE = 'images converted: 3 of 16 bits scaled to 8 bits, 3 turned upright by EXIF, 3 with transparency laid over white'

@pytest.mark.parametrize('stream', [True, False])
def test_folders_say_what_was_converted(tmp_path, capsys, stream):
    for i,b in enumerate(mixed()):
        f = tmp_path/'set'/'ab'[i%2]/f'{i}.png'
        f.parent.mkdir(parents=True, exist_ok=True)
        f.write_bytes(b)
    image_folder(tmp_path/'set', 8, val=None, stream=stream, device='cpu')
    assert f'set: {LINE}\n' in capsys.readouterr().out
    plain = image_folder(tmp_path/'set', 8, val=None, stream=stream, device='cpu').train
    assert stream==(not plain.in_memory)

def test_ordinary_folders_say_nothing(tmp_path, capsys):
    for i in range(4):
        (tmp_path/'ab'[i%2]).mkdir(exist_ok=True)
        Image.fromarray(noise(9, 12, 3)).save(tmp_path/'ab'[i%2]/f'{i}.png')
    image_folder(tmp_path, 8, val=None, device='cpu')
    assert 'converted' not in capsys.readouterr().out

def write_rows(path, encoded):
    pa = pytest.importorskip('pyarrow', reason='Parquet needs pyarrow')
    import pyarrow.parquet as pq
    pq.write_table(pa.table(dict(image=[dict(bytes=o, path=None) for o in encoded], label=[i%2 for i in range(len(encoded))])), path)

def test_parquet_says_what_was_converted(tmp_path, capsys):
    for part in ('train', 'test'): write_rows(tmp_path/f'{part}.parquet', list(mixed()))
    d = parquet(tmp_path, 8, stream=True, device='cpu')
    assert LINE.replace('3', '6') in capsys.readouterr().out
    for _ in range(2): d.train.raw()
    assert set(d.train.images.conversions.values())=={3}

# ---- files that are none ----
@pytest.mark.parametrize('row', [None, dict(bytes=None, path='a.png'), dict(bytes=b'', path='a.png')])
def test_rows_without_an_image_are_named(tmp_path, row):
    for part in ('train', 'test'): write_rows(tmp_path/f'{part}.parquet', list(mixed()))
    pq = pytest.importorskip('pyarrow.parquet')
    t = pq.read_table(tmp_path/'test.parquet').to_pylist()
    t[3]['image'] = row
    import pyarrow as pa
    pq.write_table(pa.Table.from_pylist(t), tmp_path/'test.parquet')
    for stream in (True, False):
        with fails('test.parquet row 3 of group 0 cannot be read as an image .*empty'): parquet(tmp_path, 8, stream=stream, device='cpu')

def no_images(tmp_path):
    whole = saved(Image.fromarray(noise(90, 120, 3)), 'PNG')
    for name,b in dict(empty=b'', cut=whole[:len(whole)//2], header=whole[:20], text=b'not an image').items():
        (tmp_path/f'{name}.png').write_bytes(b)
        yield tmp_path/f'{name}.png'
    (tmp_path/'folder.png').mkdir()
    yield tmp_path/'folder.png'
    yield tmp_path/'missing.png'

def test_broken_files_are_named(tmp_path):
    for f in no_images(tmp_path):
        with fails(rf'{f.name} cannot be read as an image .*remove it'): decode(f, 8)
        with fails(f.name): Files([f], 8).batch([0])
    with fails('row 3 cannot be read as an image .*empty'): decode(b'', name='row 3')

def test_a_folder_called_as_an_image_is_named(tmp_path):
    for c in 'ab':
        (tmp_path/c).mkdir()
        for i in range(2): Image.fromarray(noise(9, 12, 3)).save(tmp_path/c/f'{i}.png')
    (tmp_path/'b'/'x.png').mkdir()
    with fails(r'x\.png cannot be read'): image_folder(tmp_path, 8, val=None)

POSTSCRIPT = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n'

def test_only_image_formats(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin
    started = []
    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', lambda *args, **kwargs: started.append(args))
    (tmp_path/'x.png').write_bytes(POSTSCRIPT)
    for o in (tmp_path/'x.png', POSTSCRIPT):
        with fails(r'x\.png cannot be read as an image .*save it as one of JPEG, PNG'): decode(o, 8, name='x.png')
    assert not started
    for format in ('PCX', 'TGA', 'ICO', 'JPEG2000'):
        with fails('cannot be read as an image'): decode(saved(Image.fromarray(noise(16, 16, 3)), format))

# ---- too large ----
@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning') # PIL's own, from 89 to 179 megapixels
def test_too_large_is_refused_before_decoding(tmp_path, monkeypatch):
    def load(o): raise AssertionError('was decoded')
    monkeypatch.setattr(ImageFile.ImageFile, 'load', load)
    def blank(w, h): return png(np.zeros((1, 1), np.uint8), 8, 0).replace(struct.pack('>II', 1, 1), struct.pack('>II', w, h))
    def fixed(b): return b[:29]+struct.pack('>I', zlib.crc32(b[12:29]))+b[33:]
    for w,h in ((8000, 8001), (12_000, 12_000), (60_000, 60_000)):
        (tmp_path/'bomb.png').write_bytes(fixed(blank(w, h)))
        for o in (tmp_path/'bomb.png', fixed(blank(w, h))):
            with fails(rf'bomb\.png has {w*h:,} pixels, more than the 64,000,000 .*shrink or remove it'): decode(o, 8, name='bomb.png')

def test_limit_can_be_raised(monkeypatch):
    b = saved(Image.fromarray(noise(9, 12, 3)), 'PNG')
    monkeypatch.setattr(files, 'MAX_PIXELS', 100)
    with fails('108 pixels, more than the 100 that'): decode(b)
    monkeypatch.setattr(files, 'MAX_PIXELS', 108)
    assert decode(b).shape==(3, 9, 12)
    monkeypatch.setattr(files, 'MAX_PIXELS', 10**12)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 50)
    with fails('108 pixels, more than the 100 that'): open_header(b, 'x')

MEMORY = '''
import io,resource,sys
import numpy as np
from PIL import Image
import edf_nrr.files as files
from concurrent.futures import ThreadPoolExecutor
files._pool = lambda pool=ThreadPoolExecutor(8): pool # as on a machine of 8 cores
mode,format = sys.argv[1:]
tiny = io.BytesIO()
Image.new(mode, (8, 8)).save(tiny, format)
with open('big', 'wb') as f: f.write(open('made', 'rb').read())
class Big(files.Encoded):
    def __len__(self): return 8
    def files(self, idx): return [('big', 'big') for _ in idx]
o = Big(32)
files.decode(tiny.getvalue(), 32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert o.batch(np.arange(8)).shape==(8, 3, 32, 32)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss-before)/1024)
'''

@pytest.mark.parametrize('mode,format,most', [('RGB', 'PNG', 420), ('L', 'PNG', 480), ('RGBA', 'PNG', 780)])
def test_large_images_one_at_a_time(tmp_path, mode, format, most):
    "8 files of 8000x8000 in one batch: 256 MB each as RGB, twice that while transparency is laid over white"
    made = "import sys; from PIL import Image; Image.new(sys.argv[1], (8000, 8000)).save('made', sys.argv[2], compress_level=1)"
    subprocess.run([sys.executable, '-c', made, mode, format], cwd=tmp_path, check=True)
    out = subprocess.run([sys.executable, '-c', MEMORY, mode, format], cwd=tmp_path, capture_output=True, text=True)
    assert out.returncode==0, out.stderr
    print(mode, out.stdout)
    assert float(out.stdout) < most
