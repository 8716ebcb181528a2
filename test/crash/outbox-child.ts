// A process that holds an outbox, to be killed, or to be told what to do while its disk fails. Arguments: directory, then
// `fill COUNT DRAINED` (reports `filled` and waits) or `serve` (appends on command and reports each answer).

import { isGatewayError } from '../../src/core/errors.ts';
import { onCommand, report } from '../support/child.ts';
import { appendNumbered, drain, numberOf, openTestOutbox } from '../support/outbox.ts';

const [directory = '', mode = '', ...numbers] = process.argv.slice(2);
const settings = mode === 'serve' ? (JSON.parse(numbers[0] ?? '{}') as Record<string, never>) : {};

let commits = 0;
const outbox = await openTestOutbox(directory, {
  settings,
  onEvent: (event) => {
    if (event.kind === 'committed') commits += 1;
    else report({ event });
  },
});

if (mode === 'fill') {
  const [count = 0, drained = 0] = numbers.map(Number);
  const devices = ['a', 'b', 'c'];
  for (let from = 0; from < count; from += 100) {
    await appendNumbered(outbox, devices[(from / 100) % 3] ?? 'a', from, 100, 2000);
  }
  const queue = outbox.queue('out');
  for (let taken = 0; taken < drained;) {
    const batch = await queue.take('live', { maxMessages: 100, maxBytes: 1e6 });
    taken += batch.length;
    await queue.settle(batch.map(({ offset }) => ({ offset, outcome: 'accepted' })));
  }
  report({ filled: true });
  setInterval(() => {}, 1000);
} else {
  report({ opened: true });
  onCommand((command) => void obey(command as { append?: number; bytes?: number; drain?: boolean; close?: boolean }));
}

async function obey(command: { append?: number; bytes?: number; drain?: boolean; close?: boolean; stats?: boolean }) {
  if (command.append !== undefined) {
    const startedAtMs = performance.now();
    const before = commits;
    try {
      await appendNumbered(outbox, 'a', command.append, 1, command.bytes ?? 1000);
      report({ answer: command.append, ms: performance.now() - startedAtMs, commits: commits - before });
    } catch (error) {
      report({ answer: command.append, code: isGatewayError(error) ? error.code : String(error) });
    }
  }
  if (command.drain === true) {
    const all = await drain(outbox);
    report({ drained: all.filter(({ message }) => message.deviceId !== 'gateway-1').map(numberOf) });
  }
  if (command.stats === true) report({ stats: outbox.stats() });
  if (command.close === true) {
    await outbox.close();
    report({ closed: true });
    process.exit(0);
  }
}
