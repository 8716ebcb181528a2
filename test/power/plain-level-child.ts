// A child with nothing but LevelDB in it, to prove the power-cut rig: it puts numbers and reports each one that the store
// called durable. Arguments: directory, and `sync` or `no-sync`.

import { ClassicLevel } from 'classic-level';
import { report } from '../support/child.ts';

const [directory = '', mode = 'sync'] = process.argv.slice(2);
const db = new ClassicLevel(directory, { writeBufferSize: 64 * 1024 });
await db.open();
report({ opened: true });
for (let number = 0; ; number += 1) {
  await db.put(String(number).padStart(8, '0'), 'x'.repeat(200), { sync: mode === 'sync' });
  report({ durable: number });
}
