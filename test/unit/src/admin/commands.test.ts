import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createBufferAdmin } from '../../../../src/admin/buffer-admin.ts';
import { runBufferCommand } from '../../../../src/admin/buffer-commands.ts';
import { parseValue, runWriteCommand } from '../../../../src/admin/write-command.ts';
import type { MessageView, QuarantinedView, WriteRequest } from '../../../../src/core/admin.ts';
import { createAdminHarness, type AdminHarness } from '../../../support/admin.ts';

let harness: AdminHarness;
let output = '';

beforeEach(() => {
  harness = createAdminHarness();
  output = '';
});

afterEach(() => harness[Symbol.asyncDispose]());

const out = (text: string): void => {
  output += text;
};
const buffer = (...args: string[]) => runBufferCommand(args, { buffer: createBufferAdmin(harness.outbox), out });
const lines = <T>(): T[] =>
  output
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as T);

describe('buffer', () => {
  it('stats tells what waits and for whom', async () => {
    await harness.store(12);
    expect(await buffer('stats')).toBe(0);
    expect(output).toMatch(/^12 messages wait \(/);
    expect(output).toMatch(/^\$upstream +12 /m);
    output = '';
    await buffer('stats', '--json');
    expect(lines()[0]).toMatchObject({ messages: 12, queues: [{ name: '$upstream', messages: 12 }] });
  });

  it('list shows messages in the order of the log, from an offset, to a limit', async () => {
    await harness.store(30);
    await buffer('list', '--json', '--limit', '25');
    const offsets = lines<MessageView>().map(({ offset }) => offset);
    expect(offsets).toHaveLength(25);
    expect(offsets).toEqual(offsets.toSorted((a, b) => a - b));
    output = '';
    await buffer('list', '--from', String(offsets[24]), '--queue', '$upstream');
    expect(output).toMatch(/^ *OFFSET {2}TIME/);
    expect(output.trimEnd().split('\n')).toHaveLength(1 + 6);
    expect(output).toContain('{"a":1}');
  });

  it('export gives everything, bytes that are no text in base64', async () => {
    const body = Buffer.from([0xff, 0x00, 0xfe]);
    await harness.store(1234);
    await harness.store(1, body);
    await buffer('export');
    const messages = lines<MessageView>();
    expect(messages).toHaveLength(1235);
    expect(messages.map(({ seq }) => seq)).toEqual(Array.from({ length: 1235 }, (_, index) => index + 1));
    expect(messages[0]).toMatchObject({ deviceId: 'meter-1', body: '{"a":1}', bodyBytes: 7 });
    expect(Buffer.from(messages.at(-1)?.bodyBase64 ?? '', 'base64')).toEqual(body);
    expect(messages.at(-1)).not.toHaveProperty('body');
  });

  it('requeue sends a quarantined message again', async () => {
    await harness.store(2);
    await harness.quarantineOne('too large');
    await buffer('list', '--quarantine', '--json');
    const [quarantined] = lines<QuarantinedView>();
    expect(quarantined).toMatchObject({ queue: '$upstream', reason: 'too large', message: { body: '{"a":1}' } });
    output = '';
    await buffer('requeue', quarantined?.id ?? '');
    expect(output).toBe('1 message waits to be sent again.\n');
    expect(harness.outbox.stats().quarantined).toBe(0);
    output = '';
    await buffer('list', '--quarantine');
    expect(output).toBe('The quarantine is empty.\n');
  });

  it('requeue --all and purge --quarantine take all of it, once', async () => {
    await harness.store(3);
    for (let n = 0; n < 3; n += 1) await harness.quarantineOne('no');
    await buffer('requeue', '--all', '--json');
    expect(lines()).toEqual([{ requeued: 3 }]);
    for (let n = 0; n < 3; n += 1) await harness.quarantineOne('no');
    output = '';
    await buffer('purge', '--quarantine', '--yes', '--json');
    expect(lines()).toEqual([{ deleted: 3 }]);
    expect(harness.outbox.stats().quarantined).toBe(0);
  });

  it('purge deletes nothing without --yes, and says how much it would', async () => {
    await harness.store(5);
    await expect(buffer('purge', '--queue', '$upstream')).rejects.toMatchObject({
      code: 'GW_USAGE',
      message: expect.stringContaining('deletes 5 messages for good'),
    });
    expect(harness.outbox.stats().messages).toBe(5);
    await buffer('purge', '--queue', '$upstream', '--yes');
    expect(output).toMatch(/^5 messages deleted/);
  });

  it.each([
    [],
    ['nothing'],
    ['toString'],
    ['stats', '--what'],
    ['list', '--limit', '0'],
    ['list', '--limit', 'many'],
    ['list', '--from', '-1'],
    ['requeue'],
    ['requeue', 'a', '--all'],
    ['purge'],
    ['purge', '--queue', 'x', '--quarantine'],
    ['purge', '--queue', 'x', 'id', '--yes'],
  ])('refuses %j with the usage', async (...args) => {
    await expect(buffer(...args)).rejects.toMatchObject({
      code: 'GW_USAGE',
      message: expect.stringContaining('Usage:'),
    });
    expect(output).toBe('');
  });

  it('says that a queue does not exist', async () => {
    await expect(buffer('list', '--queue', 'nowhere')).rejects.toMatchObject({ code: 'GW_NOT_FOUND' });
    await expect(buffer('purge', '--queue', 'nowhere', '--yes')).rejects.toMatchObject({ code: 'GW_NOT_FOUND' });
  });
});

describe('write', () => {
  const run = (...args: string[]) =>
    runWriteCommand(args, { out, actor: 'cli:test', write: (request, actor) => harness.admin.write(request, actor) });

  it('writes and tells what the device reads back', async () => {
    expect(await run('pump-3', 'setpoint', '7.5')).toBe(0);
    expect(output).toBe('Wrote 7.5 to setpoint of pump-3, confirmed as 7.5 (good).\n');
    expect(harness.writes).toEqual([{ deviceId: 'pump-3', point: 'setpoint', value: 7.5 }]);
  });

  it('carries an integer of 64 bits whole', async () => {
    await run('pump-3', 'setpoint', '18446744073709551615');
    expect(harness.writes[0]?.value).toBe(18446744073709551615n);
    expect(output).toContain('confirmed as "18446744073709551615"');
  });

  it.each([
    ['true', { value: true }],
    ['0', { value: 0 }],
    ['-5', { value: -5 }],
    ['1e3', { value: 1000 }],
    ['.5', { value: 0.5 }],
    ['9007199254740993', { value: '9007199254740993', integer: true }],
    ['0x10', { value: '0x10' }],
    ['1e999', { value: '1e999' }],
    ['on', { value: 'on' }],
    ['', { value: '' }],
  ])('reads %j', (text, value: Omit<WriteRequest, 'deviceId' | 'point'>) => {
    expect(parseValue(text)).toEqual(value);
  });

  it('takes a text that looks like a number, and a negative number', async () => {
    await run('--text', 'pump-3', 'setpoint', '12');
    await run('pump-3', 'setpoint', '--', '-5');
    expect(harness.writes.map(({ value }) => value)).toEqual(['12', -5]);
  });

  it.each([
    [['pump-3', 'sealed', '1'], 'GW_WRITE_REFUSED'],
    [['pump-3', 'absent', '1'], 'GW_NOT_FOUND'],
    [['nobody', 'setpoint', '1'], 'GW_NOT_FOUND'],
    [['pump-3', 'setpoint', '13'], 'GW_DEVICE_OFFLINE'],
    [['pump-3', 'setpoint'], 'GW_USAGE'],
    [['pump-3', 'setpoint', '1', '2'], 'GW_USAGE'],
  ])('%j fails with %s', async (args, code) => {
    await expect(run(...args)).rejects.toMatchObject({ code });
    expect(output).toBe('');
  });
});
