"Exports as other tools use them: they train from the files, and half of an export is none"
import json,os,signal,subprocess,sys
from pathlib import Path
import numpy as np, pytest, torch, torch.nn.functional as F
from PIL import Image
from edf_nrr.basics import read_sealed, rng, write_sealed
from edf_nrr.core import Distilled, Normalize
from edf_nrr.datasets import digits
from edf_nrr.export import load_export
from edf_nrr.models import create_model
from edf_nrr.training import random_real

CHANCE = .1

@pytest.fixture(scope='module')
def data(): return digits(device='cpu')

@pytest.fixture(scope='module')
def syn(data):
    "Real digits, with class names that no folder can have, and the truth as soft labels"
    s = random_real(data, 10)
    return Distilled(s.images, s.labels, [f'{i}/é' for i in range(10)], s.norm, 8*F.one_hot(s.labels, 10).float(), provenance=dict(s.provenance))

def seen(data, channels):
    "Real test images as a reader of image files sees them: pixels in [0,1], and their labels"
    return data.pixels('test').expand(-1, channels, -1, -1), data.y('test')

def right(net, x, y):
    with torch.no_grad(): return (net.eval()(x).argmax(1)==y).float().mean().item()

def net(channels): return create_model('convnet_d1_w32', 10, 8, channels, seed=0)

def fit(model, batches, epochs=40):
    "A plain loop: batches() gives (x, y), y classes or probabilities"
    opt = torch.optim.SGD(model.parameters(), .05, momentum=.9)
    for _ in range(epochs):
        for x,y in batches():
            opt.zero_grad(); F.cross_entropy(model(x), y).backward(); opt.step()
    return model

# ---- others train from the files ----
@pytest.mark.parametrize('format', ['png', 'webp'])
def test_fastai_learns_from_the_folder(data, syn, tmp_path, format):
    import fastai.callback.progress # noqa: F401, gives a Learner no_bar
    from fastai.learner import Learner
    from fastai.losses import CrossEntropyLossFlat
    from fastai.vision.data import ImageDataLoaders
    syn.export(tmp_path/'x', format)
    dls = ImageDataLoaders.from_folder(tmp_path/'x', valid_pct=.1, seed=0, bs=32, num_workers=0, device='cpu')
    torch.manual_seed(0)
    learn = Learner(dls, net(3), loss_func=CrossEntropyLossFlat(), lr=.01)
    with learn.no_bar(), learn.no_logging(): learn.fit(30)
    assert right(learn.model, *seen(data, 3)) > 5*CHANCE

def test_a_plain_loop_learns_from_the_folder(data, syn, tmp_path):
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import to_tensor
    syn.export(tmp_path/'x')
    loader = torch.utils.data.DataLoader(ImageFolder(tmp_path/'x', to_tensor), 32, shuffle=True, generator=rng(0))
    assert right(fit(net(3), lambda: loader), *seen(data, 3)) > 5*CHANCE

@pytest.mark.parametrize('whole', [False, True], ids=['the file', 'the folder by its card'])
def test_datasets_learns_from_parquet(data, syn, tmp_path, whole):
    import datasets
    datasets.disable_progress_bars()
    syn.export(tmp_path/'x', 'parquet')
    kw = dict(split='train', cache_dir=str(tmp_path/'cache'))
    ds = datasets.load_dataset(str(tmp_path/'x'), **kw) if whole else datasets.load_dataset('parquet', data_files=str(tmp_path/'x/data/*.parquet'), **kw)
    assert ds.features['label'].names==syn.classes and isinstance(ds[0]['image'], Image.Image) and len(ds)==len(syn)
    def collate(rows): return torch.stack([torch.tensor(np.array(r['image']))[None]/255 for r in rows]), torch.tensor([r['logits'] for r in rows]).softmax(1)
    loader = torch.utils.data.DataLoader(ds, 32, shuffle=True, collate_fn=collate, generator=rng(0))
    assert right(fit(net(1), lambda: loader), *seen(data, 1)) > 5*CHANCE

def test_what_is_loaded_trains_like_what_was_written(data, syn, tmp_path):
    from edf_nrr.training import Recipe, evaluate
    same = Distilled(syn.images, syn.labels, data.classes, syn.norm)
    for f in ('png', 'parquet'):
        same.export(tmp_path/f, f)
        a,b = (evaluate(o, data, 'convnet_d1_w16', 1, Recipe(epochs=30, augment=None, lr=.05), checks=1).mean for o in (same, load_export(tmp_path/f)))
        assert a > 5*CHANCE and abs(a-b) < .02

def test_the_card_is_yaml_that_says_what_is_there(syn, tmp_path):
    import yaml
    names = ['"', "'", 'yes', 'null', ': #', '\t\n', '\x85\u2028\x7f', '😀', '', '- a']
    s = Distilled(syn.images, syn.labels, names, syn.norm, provenance=dict(method='a: "b"', data='---'))
    done = s.export(tmp_path/'x', 'parquet')
    card = (tmp_path/'x/README.md').read_text(encoding='utf-8')
    m = yaml.safe_load(card.split('\n---\n')[0])
    assert list(m['dataset_info']['features'][1]['dtype']['class_label']['names'].values())==names
    assert m['pretty_name']=='--- distilled with a: "b", 10 images per class' and m['size_categories']==['n<1K'] and 'dataset-distillation' in m['tags']
    assert m['dataset_info']['splits'][0]['num_examples']==100 and m['dataset_info']['download_size']==(tmp_path/'x/data/train-00000-of-00001.parquet').stat().st_size
    assert 'licence of the source data applies' in card and 'nothing is lost' in card and done.lossless
    assert load_export(tmp_path/'x').classes==names
    import datasets
    assert datasets.load_dataset(str(tmp_path/'x'), split='train', cache_dir=str(tmp_path/'cache')).features['label'].names==names

# ---- readers agree about the labels ----
@pytest.mark.parametrize('k', [12, 1002])
def test_folders_are_the_classes(k, tmp_path):
    from torchvision.datasets import ImageFolder
    labels = torch.randperm(k, generator=rng(0))
    x = torch.stack([labels//256, labels%256, labels*0], 1).float()[:,:,None,None].expand(-1, -1, 2, 2)/255
    s = Distilled(x, labels, [('a b', 'a/b', 'Ä', 'CON', '.', 'x'*300)[i%6]+' '*(i//6) for i in range(k)], Normalize([0.]*3, [1.]*3))
    assert s.export(tmp_path/'x').largest < 1e-6
    folder,called = ImageFolder(tmp_path/'x'),json.loads((tmp_path/'x/distilled.json').read_text())['folders']
    assert len({o.lower() for o in called})==k and sorted(called)==folder.classes
    for im,y in folder:
        r,g,_ = np.asarray(im)[0,0].astype(int)
        assert called[256*r+g]==folder.classes[y]
    assert torch.equal(load_export(tmp_path/'x').labels, labels) and load_export(tmp_path/'x').classes==s.classes

def test_a_folder_stands_beside_the_real_ones(data, tmp_path):
    "Students of exported images, tested on real images in folders of the same names, as torchvision numbers both"
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import to_pil_image, to_tensor
    names = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']
    s = random_real(data, 10)
    Distilled(s.images, s.labels, names, s.norm).export(tmp_path/'train')
    for i,(p,y) in enumerate(zip(data.pixels('test'), data.y('test'))):
        file = tmp_path/'val'/names[y]/f'{i}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        to_pil_image(p).save(file)
    train,val = (ImageFolder(tmp_path/o, to_tensor) for o in ('train', 'val'))
    assert train.class_to_idx==val.class_to_idx
    loader = torch.utils.data.DataLoader(train, 32, shuffle=True, generator=rng(0))
    x,y = next(iter(torch.utils.data.DataLoader(val, len(val))))
    assert right(fit(net(3), lambda: loader), x, y) > 5*CHANCE

def test_names_stay_inside(syn, tmp_path):
    Distilled(syn.images, syn.labels, ['../../x', '/etc', 'a\\..\\b', *'defghij'], syn.norm).export(tmp_path/'d')
    assert [p.name for p in tmp_path.iterdir()]==['d'] and len(list((tmp_path/'d').glob('*/*.png')))==100

# ---- the loss is what it says ----
@pytest.mark.parametrize('format', ['png', 'webp', 'parquet'])
def test_loss_against_the_files(format, tmp_path):
    p = torch.rand(5, 3, 6, 7, generator=rng(0))*1.6-.3
    norm = Normalize([.4, .5, .6], [.2, .3, .4])
    s = Distilled(norm.encode(p), torch.arange(5), list('abcde'), norm)
    done = s.export(tmp_path/'x', format)
    if format=='parquet':
        import io, pyarrow.parquet as pq
        files = [io.BytesIO(o['bytes']) for o in pq.read_table(tmp_path/'x/data')['image'].to_pylist()]
    else: files = sorted((tmp_path/'x').rglob(f'*.{format}'))
    q = np.stack([np.asarray(Image.open(f)).transpose(2, 0, 1) for f in files])
    assert np.array_equal(q, np.rint(p.clamp(0, 1).numpy()*255))
    gap = np.abs(p.numpy()-q/255)
    assert (done.largest, done.mean)==pytest.approx((gap.max(), gap.mean()), abs=1e-6)
    assert done.cut==((p<0)|(p>1)).double().mean().item() and not done.lossless
    assert done.nbytes==sum(f.stat().st_size for f in (tmp_path/'x').rglob('*') if f.is_file())
    back = load_export(tmp_path/'x')
    assert np.array_equal((back.pixels().numpy()*255).round(), q)
    again = back.export(tmp_path/'y', format)
    assert again.lossless and again.cut==0

# ---- half an export is none ----
def contents(path): return {o.relative_to(path).as_posix(): o.read_bytes() for o in path.rglob('*') if o.is_file()}

@pytest.mark.parametrize('format', ['png', 'parquet', 'safetensors'])
@pytest.mark.parametrize('before', [False, True], ids=['empty place', 'earlier export'])
def test_no_room_on_the_disk(syn, tmp_path, monkeypatch, format, before):
    if before: syn.export(tmp_path/'x', format)
    old,n,replace = contents(tmp_path),[0],os.replace
    def full(a, b):
        n[0] += 1
        if n[0]==(50 if format=='png' else 1): raise OSError(28, 'No space left on device')
        replace(a, b)
    monkeypatch.setattr(os, 'replace', full)
    other = Distilled(-syn.images, syn.labels, syn.classes, syn.norm, syn.logits)
    with pytest.raises(OSError, match='No space'): other.export(tmp_path/'x', format)
    assert contents(tmp_path)==old and [o.name for o in tmp_path.iterdir()]==(['x'] if before else [])

def test_the_old_export_comes_back_when_the_new_cannot_take_its_place(syn, tmp_path, monkeypatch):
    syn.export(tmp_path/'x')
    old,replace,tries = contents(tmp_path),os.replace,[]
    def no(a, b):
        if Path(b)==(tmp_path/'x').resolve() and not tries:
            tries.append(a)
            raise OSError(13, 'Permission denied')
        replace(a, b)
    monkeypatch.setattr(os, 'replace', no)
    with pytest.raises(OSError, match='Permission'): syn.export(tmp_path/'x', 'webp')
    assert contents(tmp_path)==old and len(tries)==1

def test_killed(syn, tmp_path):
    "A process that dies amid the images leaves the earlier export as it was, and nothing where there was none"
    syn.save(tmp_path/'s.safetensors')
    half = Distilled(syn.images[::2], syn.labels[::2], syn.classes, syn.norm)
    for place in ('none', 'earlier'):
        if place=='earlier': half.export(tmp_path/place)
        src = f"""import os,signal
from edf_nrr import export as ex
from edf_nrr.core import Distilled
n,f = [0],ex.encode_image
def dies(*a):
    n[0] += 1
    if n[0]==60: os.kill(os.getpid(), signal.SIGKILL)
    return f(*a)
ex.encode_image = dies
Distilled.load({str(tmp_path/'s.safetensors')!r}).export({str(tmp_path/place)!r})"""
        assert subprocess.run([sys.executable, '-c', src]).returncode==-signal.SIGKILL
    assert not (tmp_path/'none').exists() and len(load_export(tmp_path/'earlier'))==50
    syn.export(tmp_path/'none'); syn.export(tmp_path/'earlier')
    assert len(load_export(tmp_path/'none'))==len(load_export(tmp_path/'earlier'))==100

# ---- what is in the way ----
def test_other_files_are_left_alone(syn, tmp_path, monkeypatch):
    (tmp_path/'mine').mkdir(); (tmp_path/'mine/a.txt').write_text('a')
    (tmp_path/'file').write_text('b')
    syn.save(tmp_path/'kept/distilled.safetensors')
    (tmp_path/'foreign').mkdir(); (tmp_path/'foreign/distilled.json').write_text('{"files": 3}')
    (tmp_path/'link').mkdir(); (tmp_path/'link/to').symlink_to(tmp_path/'mine')
    old = contents(tmp_path)
    for place,match in dict(mine="'a.txt'", file='is a file', kept="'distilled.safetensors'", foreign="'distilled.json'", link="'to'").items():
        for f in ('png', 'parquet'):
            with pytest.raises(ValueError, match=match): syn.export(tmp_path/place, f)
    assert contents(tmp_path)==old and (tmp_path/'link/to').is_symlink()
    (tmp_path/'here').mkdir(); monkeypatch.chdir(tmp_path/'here')
    with pytest.raises(ValueError, match='the folder you are in'): syn.export('.')

def test_parquet_of_others_is_left_alone(syn, tmp_path):
    import pyarrow as pa, pyarrow.parquet as pq
    (tmp_path/'x/data').mkdir(parents=True)
    pq.write_table(pa.table(dict(a=[1])), tmp_path/'x/data/train-00000-of-00001.parquet')
    with pytest.raises(ValueError, match='train-00000.*no earlier export'): syn.export(tmp_path/'x', 'parquet')
    with pytest.raises(ValueError, match='train-00000.*cannot be read'): load_export(tmp_path/'x')

# ---- what is damaged ----
def test_an_index_may_not_lead_out(syn, tmp_path):
    syn.export(tmp_path/'x')
    (tmp_path/'out').mkdir()
    f = tmp_path/'x/distilled.json'
    m = read_sealed(f)
    (tmp_path/'x'/m['files'][0]).rename(tmp_path/'out/a.png')
    (tmp_path/'x/way').symlink_to(tmp_path/'out')
    for name in ('../out/a.png', str(tmp_path/'out/a.png'), 'way/a.png', '0_é/../../out/a.png'):
        write_sealed(f, m|dict(files=[name, *m['files'][1:]]))
        with pytest.raises(ValueError, match='distilled.json.*outside of the folder'): load_export(tmp_path/'x')

def test_every_cut_of_an_index_is_refused(syn, tmp_path):
    syn.export(tmp_path/'x')
    f = tmp_path/'x/distilled.json'
    whole = f.read_bytes()
    for n in (0, 1, len(whole)//2, len(whole)-3):
        f.write_bytes(whole[:n])
        with pytest.raises(ValueError, match='distilled.json cannot be read.*export the set again'): load_export(tmp_path/'x')

@pytest.mark.parametrize('change,match', [(dict(labels=['0']*100), "label '0' is not in"), (dict(labels=[True]*100), 'label True'), (dict(labels=[-1]*100), 'label -1'), (dict(labels=[0]), '100 files and 1 labels'),
    (dict(classes=[]), 'label'), (dict(lr=-1.), 'lr must be positive'), (dict(lr='x'), 'cannot be read'), (dict(norm=dict(kind='q', state={})), "got 'q'"), (dict(shape=[1, 8]), 'cannot be read'),
    (dict(norm=dict(kind='normalize', state=dict(mean=[0.]*3, std=[1.]*3))), 'input space is not one'), (dict(norm=dict(kind='zca', state=None)), 'space.safetensors is missing'), (dict(shape=[1, 9, 9]), '8x8 pixels, the set 9x9')])
def test_an_index_that_lies(syn, tmp_path, change, match):
    syn.export(tmp_path/'x')
    f = tmp_path/'x/distilled.json'
    m = read_sealed(f)
    f.write_text(json.dumps(json.loads(f.read_text())|change))
    with pytest.raises(ValueError, match='changed since it was written'): load_export(tmp_path/'x')
    write_sealed(f, m|change)
    with pytest.raises(ValueError, match=match) as e: load_export(tmp_path/'x')
    assert str(tmp_path/'x') in str(e.value)

def test_images_that_are_none(syn, tmp_path):
    import pickle
    class Bomb:
        def __reduce__(self): return os.mkdir, (str(tmp_path/'ran'),)
    syn.export(tmp_path/'x')
    f = next((tmp_path/'x').glob('0_*/00000.png'))
    whole = f.read_bytes()
    for bad in (b'', whole[:40], whole[:-30], pickle.dumps(Bomb()), b'%!PS-Adobe-3.0 EPSF\n%%BoundingBox: 0 0 8 8\n'):
        f.write_bytes(bad)
        with pytest.raises(ValueError, match='00000.png cannot be read'): load_export(tmp_path/'x')
    Image.new('RGBA', (8, 8)).save(f)
    with pytest.raises(ValueError, match='pixels are RGBA'): load_export(tmp_path/'x')
    f.unlink()
    with pytest.raises(ValueError, match='00000.png is missing'): load_export(tmp_path/'x')
    assert not (tmp_path/'ran').exists()

@pytest.mark.parametrize('change,match', [(dict(image=None), "KeyError"), (dict(label=[11]*100), 'label 11 is not in'), (dict(label=[None]*100), 'label None'), (dict(bytes=None), 'row 0 cannot be read'), (dict(logits=[[0.]]*100), r'logits must be \(100,10\)'), (dict(label=[0]*100), 'not those that were written')])
def test_parquet_that_lies(syn, tmp_path, change, match):
    import pyarrow as pa, pyarrow.parquet as pq
    syn.export(tmp_path/'x', 'parquet')
    f = tmp_path/'x/data/train-00000-of-00001.parquet'
    t = pq.read_table(f)
    meta = t.schema.metadata
    for k,v in change.items():
        if k=='image': t = t.drop_columns(['image'])
        elif k=='bytes': t = t.set_column(0, 'image', pa.array([dict(bytes=None, path='a')]*100, t.schema.field('image').type))
        else: t = t.set_column(t.column_names.index(k), k, pa.array(v, t.schema.field(k).type))
    pq.write_table(t.replace_schema_metadata(meta), f)
    with pytest.raises(ValueError, match=match) as e: load_export(tmp_path/'x')
    assert str(tmp_path/'x') in str(e.value)

def test_half_a_parquet_file(syn, tmp_path):
    syn.export(tmp_path/'x', 'parquet')
    f = tmp_path/'x/data/train-00000-of-00001.parquet'
    whole = f.read_bytes()
    for n in (0, 4, len(whole)//2, len(whole)-1):
        f.write_bytes(whole[:n])
        with pytest.raises(ValueError, match='train-00000-of-00001.parquet cannot be read'): load_export(tmp_path/'x')
        with pytest.raises(ValueError, match='no earlier export'): syn.export(tmp_path/'x', 'parquet')

# ---- what is loaded with it ----
def test_import_is_light():
    src = "import sys, edf_nrr.export; print(*(o for o in ('datasets', 'pyarrow', 'fastai', 'pandas', 'huggingface_hub', 'PIL.PngImagePlugin') if o in sys.modules))"
    assert subprocess.run([sys.executable, '-c', src], capture_output=True, text=True, check=True).stdout.split()==[]

def test_without_pyarrow(syn, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(ValueError, match=r"edf_nrr\[parquet\]"): syn.export(tmp_path/'x', 'parquet')
    assert syn.export(tmp_path/'x').lossless and not list(tmp_path.glob('.*'))
