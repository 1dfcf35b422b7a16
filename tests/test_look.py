"Folders as people have them: `look` says what is wrong with one, and `image_folder` loads it all the same"
import json,shutil
import numpy as np, pytest, torch
from PIL import Image
from edf_nrr.files import image_folder
from edf_nrr.load import load_data
from edf_nrr.look import look

def fails(match): return pytest.raises(ValueError, match=match)
def noise(i, w=20, h=16): return Image.fromarray(np.random.default_rng(i).integers(0, 256, (h, w, 3), dtype=np.uint8))

@pytest.fixture(scope='module')
def messy(tmp_path_factory):
    "Three classes of 30, 90 and 300 images, one folder within another, and all that goes wrong in one"
    root = tmp_path_factory.mktemp('messy')/'download'
    photos = root/'photos v2'
    i = 0
    for c,n in (('Ant', 30), ('bee', 90), ('cat', 300)):
        for k in range(n):
            f = photos/c/('nested' if k%3==0 else '')/f'{k:03d}.png'
            f.parent.mkdir(parents=True, exist_ok=True)
            noise(i, 20+k%7, 16).save(f)
            i += 1
    a,b,c = (photos/o for o in ('Ant', 'bee', 'cat'))
    whole = (a/'001.png').read_bytes()
    (a/'cut.jpg').write_bytes(whole[:300])                               # the header is whole, the pixels are not
    (a/'empty.png').write_bytes(b'')
    (b/'page.jpg').write_text('<html>404</html>')
    exif = Image.Exif()
    exif[0x112] = 6
    noise(5000, 30, 10).save(b/'upright.png', exif=exif)
    noise(5001).convert('L').save(b/'grey.jpg')
    noise(5001).convert('L').convert('RGB').save(c/'grey colours.png')
    shutil.copy(c/'001.png', c/'copy of 001.PNG')
    Image.open(b/'001.png').save(c/'wrong class.bmp')
    (a/'._001.png').write_bytes(b'junk')
    (photos/'.cache').mkdir()
    (photos/'.cache'/'x.png').write_bytes(b'junk')
    (photos/'lists').mkdir()
    (photos/'lists'/'ant.txt').write_text('a')
    (photos/'Thumbs.db').write_bytes(b'x')
    (root/'__MACOSX').mkdir()
    return root

def rel(files): return sorted(f.split('photos v2/')[1] for f in files)

def test_look_at_a_messy_folder(messy):
    o = look(messy)
    assert o.train==dict(Ant=30, bee=92, cat=303) and o.test is None and o.classes==['Ant', 'bee', 'cat']
    assert rel(o.bad)==['Ant/cut.jpg', 'Ant/empty.png', 'bee/page.jpg']
    assert [rel(g) for g in o.twice]==[['cat/001.png', 'cat/copy of 001.PNG']]
    assert [rel(g) for g in o.contradictory]==[['bee/001.png', 'cat/wrong class.bmp']] and not o.leaks
    assert o.sizes['width'][0]==10 and o.sizes['height']==[16, 16, 30], 'sizes are those after the turn that EXIF says'
    assert o.converted=={'turned upright by EXIF': 1}
    assert round(o.grey*425)==2 and o.channels==3 and o.not_square==1
    assert o.ignored=={'.txt': 1, '.db': 1} and rel(o.empty)==['lists']
    assert o.extreme(min)==('Ant', 30) and o.extreme(max)==('cat', 303)
    text = str(o)
    assert 5<=text.count('\n')<=16
    for said in ('no test folder', 'Ant 30, bee 92, cat 303', '10.1 times', 'photos v2/Ant/empty.png', '--skip-bad', 'wrong class.bmp'): assert said in text, said
    json.dumps(o.report())

def test_all_bad_files_at_once(messy, tmp_path, capsys):
    with fails(r'3 of 428 images cannot be read:') as e: load_data(messy, size=8)
    for o in ('cut.jpg', 'empty.png', 'page.jpg', '--skip-bad'): assert o in str(e.value)
    for stream in (True, False):
        d = image_folder(messy, 8, stream=stream, skip_bad=True, device='cpu', bad_report=tmp_path/'bad.json')
        n = [sum(o) for o in zip(*(d.y(s).bincount().tolist() for s in ('train', 'test')))]
        assert dict(zip(d.classes, n))==look(messy).train and stream==(not d.in_memory('train'))
        assert rel(json.loads((tmp_path/'bad.json').read_text()))==['Ant/cut.jpg', 'Ant/empty.png', 'bee/page.jpg']
        said = capsys.readouterr().out
        assert 'no test folder' in said and '3 of 428 images cannot be read and are left out, all are listed in' in said and 'lists' in said

def test_bad_files_of_the_selection_alone(messy):
    assert load_data(messy, size=8, classes=['cat']).n_classes==1

def test_at_most_twenty_are_listed(tmp_path):
    for c in 'ab':
        (tmp_path/c).mkdir()
        for k in range(30): (tmp_path/c/f'{k}.png').write_bytes(b'junk') if k>1 else noise(k).save(tmp_path/c/f'{k}.png')
    with fails('56 of 60 images') as e: image_folder(tmp_path, 8)
    assert str(e.value).count('cannot be read as an image')==20 and 'and 36 more' in str(e.value)
    for f in (tmp_path/'a').iterdir(): f.write_bytes(b'junk')
    with fails(r"no training image of \['a'\]: leave these classes out"): image_folder(tmp_path, 8, skip_bad=True)
    assert image_folder(tmp_path, 8, skip_bad=True, classes=['b'], device='cpu').n_classes==1

@pytest.mark.parametrize('train,test', [('train', 'val'), ('Training', 'Validation'), ('train', 'valid'), ('train', 'test'), ('TRAIN', 'Testing')])
def test_test_folders_by_name(tmp_path, train, test):
    for k,(p,c) in enumerate((p, c) for p in (train, test) for c in 'ab'):
        (tmp_path/p/c).mkdir(parents=True)
        for j in range(2): noise(10*k+j).save(tmp_path/p/c/f'{j}.png')
    shutil.copy(tmp_path/train/'a'/'0.png', tmp_path/test/'a'/'9.png')
    o,d = look(tmp_path),load_data(tmp_path, size=8)
    assert (o.n_train, o.n_test, len(d.train), len(d.test))==(4, 5, 4, 5) and len(o.leaks)==1 and 'training and test' in str(o)
    (tmp_path/'held').mkdir()
    shutil.copytree(tmp_path/test, tmp_path/'held', dirs_exist_ok=True)
    assert load_data(tmp_path, size=8, val='held').y('test').tolist()==[0, 0, 0, 1, 1] and look(tmp_path, 'held').n_test==5

def test_a_test_folder_without_classes_is_none(tmp_path, capsys):
    "As Kaggle has it: the test images lie in one heap, without labels"
    for c in 'ab':
        (tmp_path/'train'/c).mkdir(parents=True)
        for j in range(5): noise(j).save(tmp_path/'train'/c/f'{j}.png')
    (tmp_path/'test').mkdir()
    noise(9).save(tmp_path/'test'/'0.png')
    d = load_data(tmp_path, size=8)
    assert (len(d.train), len(d.test))==(8, 2) and 'no test folder' in capsys.readouterr().out and look(tmp_path).test is None

@pytest.mark.parametrize('stream', [True, False])
def test_grey_sets_stay_grey(tmp_path, stream):
    for c in 'ab':
        (tmp_path/c).mkdir()
        for k,mode in enumerate(('L', '1', 'I;16', 'RGB', 'LA')):
            im = noise(k).convert('L')
            im = Image.fromarray(np.asarray(im).astype(np.uint16)*257) if mode=='I;16' else im.convert(mode)
            im.save(tmp_path/c/f'{k}.png')
    d = image_folder(tmp_path, 8, stream=stream, device='cpu')
    assert d.channels==1 and d.train.raw().shape==(8, 1, 8, 8) and look(tmp_path).channels==1
    three = image_folder(tmp_path, 8, stream=stream, device='cpu', one_channel=False)
    assert three.channels==3 and torch.equal(three.train.raw()[:,:1], d.train.raw()) and torch.equal(three.norm.std[:1], d.norm.std)
    noise(1).save(tmp_path/'a'/'0.png')
    assert image_folder(tmp_path, 8, stream=stream, device='cpu').channels==3 and look(tmp_path).channels==3

def test_counts_are_balanced_as_far_as_they_go(messy):
    ant,bee,cat = load_data(messy, size=8, n_train=150, skip_bad=True).y('train').bincount().tolist()
    assert 24<=ant<=26 and 61<=bee<=62 and cat==62, 'the 26 of 32 that are not held out, and equal shares of the rest, without bad ones'
    assert len(load_data(messy, size=8, n_train=10**6, skip_bad=True).train)==len(load_data(messy, size=8, skip_bad=True).train)
