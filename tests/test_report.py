"A comparison's tables, plots and page, from rows made by hand"
import json
import matplotlib, numpy as np, pytest
matplotlib.use('agg')
import matplotlib.pyplot as plt
from edf_nrr.basics import plus_minus
from edf_nrr.datasets import digits
from edf_nrr.training import random_real
from edf_nrr.report import Comparison, FULL, RANDOM, ars, lrs, pareto_front

COLUMNS = ['hard', 'plain', 'soft', 'own']
ABOUT = dict(data='digits', image_size=8, n_train=1000, n_test=200, budget=40, seconds=3., protocol=dict(batch_size=16),
             versions=dict(cores=2, threads=1, torch='2'))

def row(method, labels, accuracy, arch, random=()):
    return dict(method=method, labels=labels, arch=arch, ipc=1, seeds=[0, 1], accuracy=accuracy, random=list(random), lr=[.1, .1],
                curve=[{'5': a/2, '10': a} for a in accuracy], steps=40, seconds=[1., 2.], seconds_to_make=[0., 0.], bytes=640)

def rows(name, archs=('a',)):
    res = []
    for i,arch in enumerate(archs):
        for j,c in enumerate(COLUMNS):
            own = dict(random=[.3, .34]) if c=='own' else {}
            res += [row(RANDOM, c, [.3+j/50, .34], arch, **own), row(name, c, [.4+i/50, .46+j/50], arch, **own), row(FULL, c, [.8+i/50, .82+i/50], arch)]
    return res

@pytest.fixture
def c(): return Comparison(rows('<b>', ('a', 'a&b')), ABOUT, {'<b>': random_real(digits(device='cpu'), 1, 3)})

def test_report_stands_alone(c, tmp_path):
    page = c.report(tmp_path).read_text()
    assert '<b>' not in page and '&lt;b&gt;' in page and '<h2>a&amp;b</h2>' in page
    assert page.count('src="data:image/png')==2*3+1 and 'src="http' not in page and 'href' not in page
    for line in (tmp_path/'comparison.md').read_text().splitlines()[2:7]: assert line.count('|')==len(c.table()[0])+1
    d = json.loads((tmp_path/'comparison.json').read_text())
    assert d['rows']==c.rows and {k: d[k] for k in ABOUT}==ABOUT

def test_a_page_is_replaced_as_a_whole(c, tmp_path):
    c.report(tmp_path)
    c.about['data'] = 'others'
    assert 'Comparison on others' in c.report(tmp_path).read_text()
    assert sorted(o.name for o in tmp_path.iterdir())==['comparison.html', 'comparison.json', 'comparison.md']

def test_not_a_comparison(tmp_path):
    for text in ('[]', '{"data": "x"}'):
        (tmp_path/'x.json').write_text(text)
        with pytest.raises(ValueError, match='not a comparison'): Comparison.load(tmp_path/'x.json')

def test_each_network_has_its_own_numbers(c):
    assert c.archs==['a', 'a&b'] and c['<b>','hard']['accuracy']!=c['<b>','hard','a&b']['accuracy']
    for a in c.archs:
        head,body = c.table(a)
        at = dict(zip(head[:4], body[1]))
        assert at['sets']=='1' # both students took as long to make a set for, which is one set
        assert at['hard']==plus_minus(c['<b>','hard',a]['accuracy'])
        hard,own,plain = [c['<b>',k,a] for k in ('hard', 'own', 'plain')]
        assert np.allclose(c.scores('<b>', a)['lrs'], lrs(c[FULL,'plain',a]['accuracy'], plain['accuracy'], own['accuracy'], own['random']))
        want = ars(hard['accuracy'], c[RANDOM,'hard',a]['accuracy'], plain['accuracy'], c[RANDOM,'plain',a]['accuracy'])
        assert np.allclose(c.scores('<b>', a)['ars'], want)
    with pytest.raises(KeyError, match='no row of'): c['<b>','hard','nobody']

def test_one_seed_has_no_interval():
    one = [dict(r, seeds=[0], accuracy=r['accuracy'][:1], random=r['random'][:1]) for r in rows('mine')]
    alone = Comparison(one, ABOUT)
    assert '±' not in alone.markdown().split('Test accuracy')[0]
    assert len(alone.bars(plt.figure().subplots()).patches)==3*len(COLUMNS)

@pytest.mark.parametrize('of', ['bytes', 'seconds'])
def test_the_front_joins_what_no_cheaper_one_reaches(c, of):
    ax = c.pareto(plt.figure().subplots(), of, 'a')
    points = [(float(np.median(r[of])), 100*np.mean(r['accuracy'])) for r in c.rows if r['arch']=='a']
    line = next(l for l in ax.lines if l.get_drawstyle()=='steps-post')
    assert np.allclose(line.get_xydata(), pareto_front(points))
    for x,y in pareto_front(points): assert not any(u<=x and v>=y and (u, v)!=(x, y) for u,v in points)

def test_scores_need_students_without_augmentation():
    "DD-Ranking's students of class labels see no augmentation"
    some = Comparison([r for r in rows('mine') if r['labels']!='plain'], ABOUT)
    assert some.scores('mine')==dict(lrs=[], ars=[]) and 'LRS' not in some.markdown()

def test_what_intervals_cover_is_said(tmp_path):
    def made(**how): return Comparison([dict(r, **how) if r['method']=='mine' else dict(r, sets=2) for r in rows('mine')], ABOUT)
    assert 'the intervals of mine cover students, and not the making of a set' in made(sets=1).report(tmp_path).read_text()
    assert 'cover students' not in made(sets=2).markdown()
    noted = made(sets=2, note='low confidence', random_labels='experts')
    page = noted.report(tmp_path).read_text()
    assert '<td>mine (low confidence)</td>' in page and 'labels of the experts (mine)' in page
    assert {r['note'] for r in json.loads((tmp_path/'comparison.json').read_text())['rows'] if 'note' in r}=={'low confidence'}

def test_an_order_needs_three_networks_and_two_seeds(c):
    with pytest.raises(ValueError, match='at least 3 networks'): c.agreement('<b>')
    three = Comparison([dict(r, seeds=[0], accuracy=r['accuracy'][:1]) for r in rows('mine', 'abc')], ABOUT)
    assert three.agreement('mine')['regret']==[0.]
    with pytest.raises(ValueError, match='2 seeds or more'): three.agreement(FULL)

# ---- verdicts ----
@pytest.mark.parametrize('a,b,answer,said', [
    ([.64, .65, .66], [.61, .62, .63], True, 'It pays: +3.0 ± 0.0 points over random real images with the same labels.'),
    ([.61, .62, .63], [.64, .66, .65], False, 'It does not pay here: -3.0 ± 2.5 points against'),
    ([.61, .68, .63], [.64, .60, .65], None, 'These seeds do not resolve a difference: +1.0 ± 15.'),
    ([.9], [.1], None, 'These seeds do not resolve a difference: +80.0 points'),
    ([.5, .5], [.5, .5], None, 'These seeds do not resolve a difference: +0.0 ± 0.0')])
def test_verdicts(a, b, answer, said):
    from edf_nrr.report import pays, verdict
    assert pays(a, b) is answer and verdict(a, b).startswith(said)
    with pytest.raises(ValueError): verdict(a, [*b, .5])
