"Show what one damaged file does: python -m faults.again TYPE 'NAME OF THE DAMAGE', in tests/"
import sys,tempfile
from pathlib import Path
from faults import damage,world
from faults.leaves import differences,leaves
from faults.verdict import copied,intact

def main(name, wanted):
    with tempfile.TemporaryDirectory() as d:
        world.make_world(Path(d)/'world')
        kind,file = intact(name, Path(d)/'one')
        good = leaves(kind.load(world.WORLD, copied(Path(d)/'one')))
        ways = dict(damage.all_damage(kind, file))
        if wanted not in ways: sys.exit('\n'.join(ways))
        bad = copied(Path(d)/'one')/file.relative_to(Path(d)/'one'/'intact')
        bad.write_bytes(ways[wanted])
        found = leaves(kind.load(world.WORLD, Path(d)/'one'/'copy'))
        print('read as if it were intact' if found==good else '\n'.join(['read with other data', *differences(good, found, 20)]))

if __name__=='__main__': main(sys.argv[1], ' '.join(sys.argv[2:]))
