"Faults of real data, and that streamed and in-memory data are the same bytes"
import io,json,os,sys,threading
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image
from edf_nrr import data as d
from edf_nrr.basics import rng
from edf_nrr.core import Normalize
from edf_nrr.data import ImageData, Split
from edf_nrr.datasets import cifar10, cifar100, cluttered_digits, digits
from edf_nrr.files import image_folder, parquet

def fails(match): return pytest.raises(ValueError, match=match)

def picture(i, size=(12, 9)):
    a = np.random.default_rng(i).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(a).resize(size, Image.BICUBIC)

def make_folder(path, classes=('ant', 'bee', 'cat'), n=6, ext='jpg', parts=('train', 'val')):
    for p in parts:
        for j,c in enumerate(classes):
            (path/p/c).mkdir(parents=True)
            for i in range(n): picture(100*j+i, (12+i, 9)).save(path/p/c/f'{i}.{ext}')
    return path

@pytest.fixture
def folder(tmp_path): return make_folder(tmp_path/'set')

def test_stream_equals_memory(folder):
    a,b = [image_folder(folder, 8, stream=s, device='cpu') for s in (False, True)]
    assert a.in_memory('train') and not b.in_memory('train') and 'streamed' in repr(b)
    idx = torch.randperm(18, generator=rng(0, 'test'))
    assert torch.equal(a.train.raw(idx), b.train.raw(idx))
    for s in ('train', 'test'):
        for (x,y),(x2,y2) in zip(a.batches(s, 5), b.batches(s, 5), strict=True): assert torch.equal(x, x2) and torch.equal(y, y2)
    assert torch.equal(a.norm.mean, b.norm.mean) and torch.equal(a.norm.std, b.norm.std)
    for f in (lambda o: o.only(['cat', 'ant']), lambda o: o.take(2, 1), lambda o: o.validation(.3)):
        assert torch.equal(f(a).train.raw(), f(b).train.raw()) and torch.equal(f(a).x('test'), f(b).x('test'))
        assert f(a).classes==f(b).classes and torch.equal(f(a).y('train'), f(b).y('train'))

def test_auto_streams_what_does_not_fit(folder, monkeypatch):
    assert image_folder(folder, 8, device='cpu').in_memory('train')
    monkeypatch.setattr(d, 'free_memory', lambda device='cpu': 10_000)
    assert not image_folder(folder, 8, device='cpu').in_memory('train')
    with fails('stream=True'): image_folder(folder, 32, stream=False, device='cpu')

def test_crop_and_squash(folder):
    a,b = [image_folder(folder, 6, resize=r, device='cpu') for r in ('squash', 'crop')]
    assert a.train.shape==b.train.shape==(3, 6, 6) and not torch.equal(a.train.raw(), b.train.raw())
    with fails(r"resize must be one of \['squash', 'crop'\], got 'stretch'"): image_folder(folder, 6, resize='stretch')

def test_wrong_paths(tmp_path, folder):
    with fails('there is no folder'): image_folder(tmp_path/'nowhere', 8)
    (tmp_path/'empty').mkdir()
    with fails("no folder 'train'"): image_folder(tmp_path/'empty', 8, val='val')
    with fails('no class folders'): image_folder(tmp_path/'empty', 8)
    with fails("no folder 'test'"): image_folder(folder, 8, val='test')
    with fails('needs train'): parquet(tmp_path/'empty')
    for f in (cifar10, cifar100):
        with fails('download=True'): f(tmp_path/'empty')

def test_class_without_images(folder, capsys):
    for o in (folder/'train'/'bee').iterdir(): o.rename(o.with_suffix('.txt'))
    with fails(r"\['bee'\] are in one only"): image_folder(folder, 8)
    assert image_folder(folder/'train', 8).classes==['ant', 'cat'] and 'folders without images are not classes: bee' in capsys.readouterr().out
    assert image_folder(folder, 8, classes=['cat', 'ant']).classes==['cat', 'ant']

def test_class_mismatch(folder):
    (folder/'val'/'cat').rename(folder/'val'/'cow')
    with fails(r"\['cat', 'cow'\] are in one only"): image_folder(folder, 8)
    with fails(r"unknown classes \['cat'\] in .*val"): image_folder(folder, 8, classes=['ant', 'cat'])
    assert image_folder(folder, 8, classes=['bee', 'ant']).n_classes==2

@pytest.mark.parametrize('stream', [True, False])
@pytest.mark.parametrize('part', ['train', 'val'])
def test_corrupt_image_is_named(folder, stream, part):
    f = folder/part/'bee'/'3.jpg'
    f.write_bytes(f.read_bytes()[:200])
    with fails(r'bee.3\.jpg cannot be read'): image_folder(folder, 8, stream=stream)

def test_hidden_files_are_ignored(folder):
    (folder/'train'/'.cache').mkdir()
    (folder/'train'/'ant'/'.ipynb_checkpoints').mkdir()
    picture(0).save(folder/'train'/'ant'/'.ipynb_checkpoints'/'0.jpg')
    (folder/'train'/'ant'/'._0.jpg').write_bytes(b'junk')
    assert len(image_folder(folder, 8).train)==18

def test_grey_palette_and_alpha(tmp_path):
    for j,mode in enumerate(('L', 'P', 'RGBA', '1', 'CMYK')):
        for c in 'ab':
            (tmp_path/'s'/c).mkdir(parents=True, exist_ok=True)
            picture(j).convert(mode).save(tmp_path/'s'/c/(f'{j}.tif' if mode=='CMYK' else f'{j}.png'))
    o = image_folder(tmp_path/'s', 8, val=None)
    assert len(o.train)==8 and len(o.test)==2 and o.train.shape==(3, 8, 8)

def test_one_folder_split_by_seed(folder):
    f = lambda seed: image_folder(folder/'train', 8, val=None, test_fraction=.5, seed=seed, device='cpu')
    assert torch.equal(f(0).test.raw(), f(0).test.raw()) and not torch.equal(f(0).test.raw(), f(1).test.raw())
    assert f(0).y('test').bincount().tolist()==[3, 3, 3]

def test_bad_splits():
    u8 = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    s = lambda y, o=u8, m=None: Split(o, y, m)
    with fails('masks must be bool'): s([0]*4, m=torch.zeros(4, 2, 2))
    with fails('labels must be in 0..1'): ImageData(s([0, 1, 2, 0]), s([0, 1, 0, 1]), 'ab')
    with fails('give both one size'): ImageData(s([0, 1]*2), s([0, 1]*2, torch.zeros(4, 1, 3, 3, dtype=torch.uint8)), 'ab')
    with fails('class names must differ'): ImageData(s([0, 1]*2), s([0, 1]*2), 'aa')
    with fails('channel is constant'): ImageData(s([0, 1]*2), s([0, 1]*2), 'ab')
    o = ImageData(s([0, 1]*2), s([0, 1]*2), 'ab', norm=Normalize([0.], [1.]))
    with fails('has no object masks'): o.show(masks=True)
    for fraction in (0, 1, 2):
        with fails('fraction must be a number in'): o.validation(fraction)

def test_zca_refuses_what_does_not_fit(monkeypatch):
    o = digits(device='cpu')
    monkeypatch.setattr(d, 'free_memory', lambda device='cpu': 100_000)
    with fails(r'needs 0\.0 GB'): o.whiten()

def test_masks_follow_their_images():
    o = cluttered_digits(60, 20, device='cpu')
    for p in (o.only(['7', '1']), o.take(3), o.validation(.3)):
        for s in ('train', 'test'):
            raw,m = p.split(s).raw(),p.masks(s)
            for i in (0, len(raw)-1):
                parent = 'train' if p.name.endswith('validation') else s
                j = (o.split(parent).raw()==raw[i]).flatten(1).all(1).nonzero().item()
                assert torch.equal(o.masks(parent)[j], m[i])

@pytest.mark.parametrize('size', [16, 64, 96])
def test_cluttered_sizes(size):
    o = cluttered_digits(20, 10, size=size, object_fraction=.4, device='cpu')
    assert o.train.shape==(3, size, size) and o.masks('train').shape==(20, size, size)
    share = o.masks('train').float().mean((1, 2))
    assert share.min()>.05 and share.max()<.3

def write_parquet(path, split, names, meta=True, **kwargs):
    pa = pytest.importorskip('pyarrow', reason='Parquet needs pyarrow')
    import pyarrow.parquet as pq
    def encoded(o):
        f = io.BytesIO(); Image.fromarray(o.permute(1, 2, 0).numpy()).save(f, 'PNG')
        return dict(bytes=f.getvalue(), path='x.png')
    t = pa.table(dict(image=[encoded(o) for o in split.raw()], label=split.y.tolist()))
    info = dict(info=dict(features=dict(image=dict(_type='Image'), label=dict(_type='ClassLabel', names=names))))
    pq.write_table(t.replace_schema_metadata({'huggingface': json.dumps(info)} if meta else None), path, **kwargs)

@pytest.fixture
def hub(tmp_path):
    o = cluttered_digits(60, 20, size=16, device='cpu')
    for i in range(2): write_parquet(tmp_path/f'train-0000{i}-of-00002.parquet', o.train.select(slice(30*i, 30*i+30)), o.classes, row_group_size=7)
    write_parquet(tmp_path/'test-00000-of-00001.parquet', o.test, o.classes)
    return tmp_path,o

def test_parquet_roundtrip(hub):
    path,o = hub
    for s in (True, False):
        p = parquet(path, stream=s, device='cpu')
        assert p.classes==o.classes and torch.equal(p.y('train'), o.y('train'))
        idx = torch.randperm(60, generator=rng(0, 'test'))
        assert torch.equal(p.train.raw(idx), o.train.raw(idx)) and torch.equal(p.test.raw(), o.test.raw())
    p = parquet(path, n_train=20, n_test=10, zca=True, device='cpu')
    assert p.y('train').bincount().tolist()==[2]*10 and p.norm.kind=='zca'

def test_parquet_in_threads(hub):
    "Batches read ahead and batches asked for at random share the row groups"
    path,o = hub
    p = parquet(path, stream=True, device='cpu')
    for i,(x,y) in enumerate(p.batches('train', 8)):
        assert torch.equal(p.train.raw([59-i]), o.train.raw([59-i]))
        assert torch.equal(y, o.y('train')[8*i:8*i+8])

def test_parquet_other_label_order(hub):
    "Test files with their names in another order are mapped by name"
    path,o = hub
    back = Split(o.test.images, 9-o.test.y)
    write_parquet(path/'test-00000-of-00001.parquet', back, o.classes[::-1])
    p = parquet(path, device='cpu')
    assert torch.equal(p.y('test'), o.y('test')) and p.classes==o.classes

def test_parquet_faults(hub, monkeypatch):
    path,o = hub
    with fails(r"unknown classes \['ten'\]"): parquet(path, classes=['ten'])
    with fails('no test image of'): parquet(path, n_test=5)
    assert len(parquet(path, n_train=9999).train)==len(o.train)
    write_parquet(path/'test-00000-of-00001.parquet', Split(o.test.images, o.test.y-1), o.classes)
    with fails('are these rows unlabelled'): parquet(path)
    write_parquet(path/'test-00000-of-00001.parquet', o.test, o.classes[:9]+['x'])
    with fails(r"unknown classes \['9'\]"): parquet(path)
    for i in (0, 1): write_parquet(path/f'train-0000{i}-of-00002.parquet', o.train.select(slice(30*i, 30*i+30)), o.classes, meta=False)
    write_parquet(path/'test-00000-of-00001.parquet', o.test, o.classes, meta=False)
    assert parquet(path).classes==o.classes
    monkeypatch.setitem(sys.modules, 'pyarrow.parquet', None)
    with fails(r'pip install .edf_nrr\[parquet\]'): parquet(path)

real = os.environ.get('EDF_NRR_DATA')
needs_real = pytest.mark.skipif(not real, reason='EDF_NRR_DATA is not set to a folder with cifar10/ and imagenette128/')

@needs_real
def test_real_cifar10():
    o = parquet(Path(real)/'cifar10', n_train=5000, n_test=1000)
    assert o.train.shape==(3, 32, 32) and o.classes[:2]==['airplane', 'automobile']
    assert o.y('train').bincount().tolist()==[500]*10 and o.y('test').bincount().tolist()==[100]*10
    assert (o.norm.mean.cpu()-torch.tensor([.4914, .4822, .4465])).abs().max() < .01
    assert (o.norm.std.cpu()-torch.tensor([.2470, .2435, .2616])).abs().max() < .01

@needs_real
def test_real_imagenette():
    a,b = [parquet(Path(real)/'imagenette128', size=64, n_train=200, n_test=100, classes=['church', 'tench'], stream=s, device='cpu') for s in (True, False)]
    assert a.classes==['church', 'tench'] and a.y('train').bincount().tolist()==[100, 100]
    idx = torch.randperm(200, generator=rng(0, 'test'))[:32]
    assert torch.equal(a.train.raw(idx), b.train.raw(idx))

# ---- devices ----
def test_device_0_is_a_device():
    "0 is the first GPU, not a missing argument"
    o = digits(device='cpu')
    try: assert o.to(0).device.type!='cpu'
    except (RuntimeError, AssertionError) as e: assert 'CUDA' in str(e) or 'NVIDIA' in str(e)

def test_threads_work_on_the_device_of_their_caller(monkeypatch):
    "A new thread begins on the first GPU"
    chosen,here = [],threading.get_ident()
    monkeypatch.setattr(torch.cuda, 'set_device', lambda o: chosen.append((torch.device(o).index, threading.get_ident()==here)))
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 3)
    for o in ('cuda:1', 'cuda', 'cpu'): assert list(d._ahead(abs, [-1, -2], o))==[1, 2]
    assert chosen==[(1, False), (3, False)]

def test_streamed_batches_name_their_device(folder, monkeypatch):
    o,seen = image_folder(folder, 8, stream=True, device='cpu'),[]
    monkeypatch.setattr(d, 'use_device', seen.append)
    list(o.batches('test', 4))
    assert seen==[torch.device('cpu')]

def test_statistics_are_exact(folder):
    "To the last bit of what integers give"
    o = image_folder(folder, 8, device='cpu').train
    p = o.raw().transpose(0, 1).flatten(1).numpy().astype(object)
    n = p.shape[1]
    for batch_size in (1, 5, 100):
        norm = d.fit_normalize(o, batch_size)
        for c in range(3):
            s,q = int(p[c].sum()),int((p[c]*p[c]).sum())
            assert norm.mean[c]==torch.tensor(s/n/255, dtype=torch.float64).float()
            assert norm.std[c]==torch.tensor((q/n-(s/n)**2)**.5/255, dtype=torch.float64).float()

def test_zca_mean_does_not_depend_on_batches(folder):
    o = image_folder(folder, 8, device='cpu').train
    means = [d.pixel_covariance(o, n)[0] for n in (1, 7, 100)]
    assert torch.equal(means[0], means[1]) and torch.equal(means[0], means[2])
    assert (means[0]-o.raw().flatten(1).double().mean(0)/255).abs().max()<1e-15

def test_fits_on_the_cpu():
    "Wherever images are, sizes and whitening are computed on the CPU"
    o,seen = cluttered_digits(40, 20, size=16, device='cpu'),[]
    class Elsewhere(torch.Tensor):
        def cpu(self): seen.append('cpu'); return self.as_subclass(torch.Tensor)
        def to(self, *a, **k): return self.as_subclass(torch.Tensor)
    away = Split(o.train.images.as_subclass(Elsewhere), o.train.y)
    d.fit_zca(away, batch_size=10)
    assert seen==['cpu']*4
    d._resize(away, 8, '')
    assert len(seen)==5
