// A process that holds a state store. It tells what it finds there, and then writes as it is told: `{put: N}` one write,
// `{load: N}` one write after another from that number on. Argument: directory.

import { isGatewayError } from '../../src/core/errors.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { openStateStore } from '../../src/store/state/open.ts';
import { onCommand, report } from '../support/child.ts';
import { dump, put } from '../support/state-ledger.ts';

const [directory = ''] = process.argv.slice(2);
const store = await openStateStore({
  directory,
  clock: new SystemClock(),
  telemetry: { emit: (event, fields = {}) => report({ event, fields }) },
});
const space = store.space('ledger');
report({ found: await dump(space) });
onCommand((command) => void obey(command as { put?: number; load?: number; dump?: boolean }));

async function write(number: number): Promise<void> {
  const startedAtMs = performance.now();
  report({ begun: number });
  try {
    await put(space, number);
    report({ done: number, ms: performance.now() - startedAtMs });
  } catch (error) {
    report({ refused: number, code: isGatewayError(error) ? error.code : String(error) });
  }
}

async function obey(command: { put?: number; load?: number; dump?: boolean }): Promise<void> {
  if (command.put !== undefined) await write(command.put);
  if (command.load !== undefined) for (let number = command.load; ; number += 1) await write(number);
  if (command.dump === true) report({ found: await dump(space) });
}
