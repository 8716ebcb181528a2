// Commands from a real broker, sent by mosquitto_pub, to a real gateway with pymodbus behind it.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Subscriber } from '../support/upstream-rig.ts';
import { subscribe } from '../support/upstream-rig.ts';
import { run } from '../support/command.ts';
import { freePort } from '../support/free-port.ts';
import { startMosquitto, type Mosquitto } from '../support/mosquitto.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.68.2';
const ROOT = join(import.meta.dirname, '..', '..');
const TOPIC = 'fieldpost/plant-7/plc/command/write';

interface Answer {
  readonly id: string | null;
  readonly status: number;
  readonly code?: string;
  readonly values?: Readonly<Record<string, unknown>>;
}

describe.each(['3.1.1', '5'])('commands over MQTT %s', (version) => {
  const directory = createTempDir('commands');
  let broker: Mosquitto;
  let plc: ChildProcess;
  let gateway: ChildProcess;
  let witness: Subscriber;
  let plcPort: number;

  const startGateway = (): ChildProcess =>
    spawn(
      process.execPath,
      [join(ROOT, 'src', 'main.ts'), 'run', '--config', config(), '--data', directory.file('data')],
      { stdio: 'ignore' },
    );
  const config = (): string => {
    const path = directory.file('fieldpost.yaml');
    writeFileSync(
      path,
      `
gateway: { id: plant-7 }
adapters:
  bus-1:
    type: modbus
    transport: { kind: tcp, host: ${ADDRESS}, port: ${plcPort} }
    devices:
      plc:
        poll_interval_ms: 100
        points:
          relay: { register: coil:0, writable: true }
          level: { register: holding:5, writable: true, write: { max: 100 } }
upstream: { type: mqtt, url: "${broker.url}", protocol_version: ${version} }
outbox: { min_free_bytes: 0 }
web: { enabled: false }
`,
    );
    return path;
  };
  const publish = (payload: string, options: readonly string[] = [], topic = TOPIC): Promise<unknown> => {
    const where = ['-h', broker.address, '-p', String(broker.port), '-V', version === '5' ? 'mqttv5' : 'mqttv311'];
    return run('mosquitto_pub', [...where, '-q', '1', '-t', topic, '-m', payload, ...options]);
  };
  const answers = (id: string): Answer[] =>
    witness.received
      .filter(({ topic }) => topic === `fieldpost/plant-7/plc/response/${id}`)
      .map(({ text }) => JSON.parse(text) as Answer);
  const polled = (): Readonly<Record<string, unknown>> =>
    (
      JSON.parse(
        witness.received.findLast(({ topic }) => topic.endsWith('/telemetry'))?.text ?? '{"values":{}}',
      ) as Answer
    ).values ?? {};
  const ask = async (id: string, fields: object): Promise<Answer> => {
    const before = answers(id).length;
    await publish(JSON.stringify({ id, ...fields }));
    await waitFor(() => answers(id).length > before, { timeoutMs: 20_000, what: `the answer to ${id}` });
    return answers(id).at(-1) as Answer;
  };
  const ready = async (from: number): Promise<void> => {
    const polledSince = (): boolean => witness.received.slice(from).some(({ topic }) => topic.endsWith('/telemetry'));
    await waitFor(polledSince, { timeoutMs: 30_000, what: 'the gateway' });
  };

  beforeAll(async () => {
    broker = await startMosquitto({ address: ADDRESS });
    witness = await subscribe(broker.url);
    plcPort = await freePort(ADDRESS);
    const script = join(ROOT, 'test', 'sim', 'pymodbus-server.py');
    plc = spawn('/usr/bin/python3', [script, 'tcp', ADDRESS, String(plcPort)], { stdio: ['pipe', 'pipe', 'inherit'] });
    if (plc.stdout !== null) await once(plc.stdout, 'data');
    gateway = startGateway();
    await ready(0);
  });

  afterAll(async () => {
    gateway.kill('SIGKILL');
    plc.kill('SIGKILL');
    await witness[Symbol.asyncDispose]();
    await broker[Symbol.asyncDispose]();
    directory.remove();
  });

  it('writes a coil and answers with what the device holds', async () => {
    const before = polled()['relay'];
    expect(before).toBeTypeOf('boolean');
    expect(await ask('42', { values: { relay: before !== true } })).toEqual({
      id: '42',
      status: 200,
      values: { relay: before !== true },
    });
    await waitFor(() => polled()['relay'] === (before !== true), { what: 'the new value in a message' });
  });

  it('answers what comes again from its record, also after kill -9', async () => {
    expect((await ask('once', { values: { level: 1 } })).status).toBe(200);
    expect(await ask('once', { values: { level: 2 } })).toMatchObject({ status: 200, values: { level: 1 } });
    gateway.kill('SIGKILL');
    await once(gateway, 'exit');
    const from = witness.received.length;
    gateway = startGateway();
    await ready(from);
    expect(await ask('once', { values: { level: 3 } })).toMatchObject({ status: 200, values: { level: 1 } });
    await waitFor(() => polled()['level'] === 1);
  });

  it('refuses with a reason', async () => {
    expect((await ask('a', { values: { level: 101 } })).status).toBe(400);
    expect((await ask('b', { values: { nope: 1 } })).status).toBe(404);
    expect((await ask('c', { values: { level: 1 }, expires_at: '2020-01-01T00:00:00Z' })).status).toBe(408);
    expect((await ask('d', { values: { level: 1 }, surprise: 1 })).status).toBe(400);
    expect((await ask('e', { values: {} })).status).toBe(400);
    for (const bad of ['not json', '{"values":{"level":1}}', '{"id":"a/b","values":{"level":1}}', '[]', 'null']) {
      const before = answers('_').length;
      await publish(bad);
      await waitFor(() => answers('_').length > before, { what: `the answer to ${bad}` });
      expect(answers('_').at(-1)).toMatchObject({ id: null, status: 400 });
    }
  });

  it('leaves a retained command alone, and one that was sent while it was away', async () => {
    gateway.kill('SIGKILL');
    await once(gateway, 'exit');
    // While it is connected, MQTT 3.1.1 does not tell that a message is meant to be kept.
    await publish('{"id":"kept","values":{"level":77}}', ['-r']);
    await publish('{"id":"away","values":{"level":78}}');
    const from = witness.received.length;
    gateway = startGateway();
    await ready(from);
    expect((await ask('marker', { values: { level: 5 } })).status).toBe(200);
    expect(answers('kept')).toEqual([]);
    expect(answers('away')).toEqual([]);
    await publish('', ['-r']);
  });
});
