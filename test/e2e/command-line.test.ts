// Exit codes, messages and changes of the configuration, on the built command line.

import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { verifyPassword } from '../../src/platform/password.ts';
import { run } from '../support/command.ts';
import { freePort } from '../support/free-port.ts';
import type { TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';
import { runFieldpost, spawnDaemon, startDaemon, temporaryDirectory } from './daemon-process.ts';

const ADDRESS = '127.0.71.1';

describe('the command line', () => {
  let directory: TempDir;
  let web: string;
  let local: number;

  beforeEach(async () => {
    directory = temporaryDirectory();
    web = `${ADDRESS}:${await freePort(ADDRESS)}`;
    local = await freePort();
  });

  afterEach(() => directory.remove());

  function config(more = ''): string {
    return `upstream: { type: local, listen: { port: ${local} } }\nweb: { address: ${ADDRESS}, port: ${web.split(':')[1]} }\noutbox: { min_free_bytes: 0 }\n${more}`;
  }

  it('hashes a password that is given on standard input, and prints nothing of it', async () => {
    const hash = async (): Promise<string> => {
      const text = await run(process.execPath, ['dist/main.mjs', 'hash-password'], 'secret word\n');
      return text.trim();
    };
    const [first, second] = [await hash(), await hash()];
    expect(first).not.toBe(second);
    expect(await verifyPassword('secret word', first)).toBe(true);
    expect(await verifyPassword('secret', first)).toBe(false);
    expect((await runFieldpost(['hash-password', 'secret'])).code).toBe(2);
    await expect(run(process.execPath, ['dist/main.mjs', 'hash-password'], '\n')).rejects.toThrow(/empty/);
  });

  it('tells every fault of a file at once, with line and path', async () => {
    const file = directory.file('bad.yaml');
    writeFileSync(
      file,
      'gateway: { id: "a b" }\nadapters:\n  bus-1:\n    type: modbus\n    transport: { kind: tcp, hots: 10.0.0.5 }\n    devices: {}\nweb: { port: 99999 }\n',
    );
    const { code, err } = await runFieldpost(['check', file]);
    expect(code).toBe(1);
    expect(err).toContain(`${file}:1: gateway.id: `);
    expect(err).toContain(`${file}:5: adapters.bus-1.transport.`);
    expect(err).toContain(`${file}:7: web.port: `);
  });

  it('prints a JSON Schema and the version', async () => {
    const schema = await runFieldpost(['schema']);
    expect(JSON.parse(schema.out)).toMatchObject({ type: 'object' });
    expect((await runFieldpost(['version'])).out).toMatch(/^fieldpost \d+\.\d+\.\d+ \(Node 24\./);
  });

  it.each([
    ['nothing', []],
    ['an unknown command', ['fly']],
    ['an unknown option', ['run', '--fast']],
    ['check without a file', ['check']],
    ['a write without a value', ['write', 'a', 'b']],
  ])('exits 2 for %s', async (_what, args) => {
    expect((await runFieldpost(args)).code).toBe(2);
  });

  it('exits 1 when no configuration loads, and changes nothing', async () => {
    writeFileSync(directory.file('fieldpost.yaml'), 'adapters: [\n');
    const result = await runFieldpost([
      'run',
      '--data',
      directory.file('data'),
      '--config',
      directory.file('fieldpost.yaml'),
    ]);
    expect(result.code).toBe(1);
    expect(result.err + result.out).toContain('fieldpost.yaml:');
    expect(readFileSync(directory.file('fieldpost.yaml'), 'utf8')).toBe('adapters: [\n');
  });

  it('exits 75 when another instance uses the data directory, and leaves that one alone', async () => {
    await using daemon = await startDaemon({ config: config(), web, directory });
    const second = await runFieldpost(['run', '--data', daemon.dataDirectory, '--config', daemon.configPath]);
    expect(second).toMatchObject({ code: 75, err: expect.stringContaining(`process ${daemon.pid}`) as string });
    expect((await daemon.get('/health')).status).toBe(200);
  });

  it('exits 75 when the data directory cannot be made', async () => {
    writeFileSync(directory.file('fieldpost.yaml'), config());
    writeFileSync(directory.file('file'), '');
    const result = await runFieldpost([
      'run',
      '--data',
      directory.file('file', 'data'),
      '--config',
      directory.file('fieldpost.yaml'),
    ]);
    expect(result).toMatchObject({ code: 75, err: expect.stringContaining('--data') as string });
  });

  it('runs the last healthy generation, loudly, when the newest does not load', async () => {
    const first = await startDaemon({ config: config(), web, directory });
    await first.kill('SIGTERM');
    await using second = await startDaemon({ config: config('adaptors: {}\n'), web, directory });
    const status = await second.status();
    expect(status.config).toMatchObject({ degraded: true, generation: 1 });
    expect(status.config.faults[0]).toMatch(/fieldpost\.yaml:4: adaptors: /);
    expect(status.health.degraded).toBe(true);
    expect(second.log()).toContain('adaptors');
  });

  it('runs on without the parts whose secrets are gone at a start, and with them once they are there', async () => {
    const secret = directory.file('secret');
    writeFileSync(secret, 'secret word\n');
    const text = config(`adapters:
  sim: { type: modbus, simulate: true, transport: { kind: tcp, host: ${ADDRESS} }, devices: { meter: { points: { u: { register: "input:0" } } } } }
  field:
    type: mqtt
    listen: { port: ${await freePort(ADDRESS)}, address: ${ADDRESS} }
    clients: [{ username: pump, password: !file secret }]
    topics: [{ topic: "sensors/{device_id}" }]
endpoints: { cloud: { type: mqtt, url: "mqtt://${ADDRESS}:${await freePort(ADDRESS)}", username: gw, password: !file secret } }
routes: [{ name: all, condition: "true", endpoint: cloud }]
`);
    await (await startDaemon({ directory, web, config: text })).kill('SIGTERM');
    rmSync(secret);
    await using daemon = await startDaemon({ directory, web });
    const failed = async (): Promise<string[]> => {
      const { reasons } = (await (await daemon.get('/health')).json()) as {
        reasons: { part: string; status: string; reason: string }[];
      };
      return reasons.filter(({ status }) => status === 'failed').map(({ part, reason }) => `${part}: ${reason}`);
    };
    expect(await failed()).toEqual([
      expect.stringMatching(/^adapter field: .*:9: adapters\.field\.clients.*there is no file/),
      expect.stringMatching(/^endpoint cloud: .*:11: endpoints\.cloud\.password: .*there is no file/),
    ]);
    // What the endpoint is to get is kept for it.
    const stored = async (): Promise<number> => (await daemon.status()).outbox.messages;
    const before = await stored();
    await waitFor(async () => (await stored()) > before, { what: 'polled values in the outbox' });
    writeFileSync(secret, 'secret word\n');
    const isFieldRunning = async (): Promise<boolean> =>
      (await daemon.status()).adapters.some(
        ({ adapterId, health }) => adapterId === 'field' && health.status === 'running',
      );
    await waitFor(isFieldRunning, { timeoutMs: 20_000, what: 'the adapter that has its secret again' });
    expect(await failed()).toEqual([]);
  });

  it('applies a change on trial and takes it back unless it is confirmed, after a kill too', async () => {
    const daemon = await startDaemon({ config: config(), web, directory });
    const data = ['--data', daemon.dataDirectory];
    const file = directory.file('next.yaml');
    writeFileSync(file, config('routes: [{ name: all, endpoint: $upstream }]\n'));
    const trial = await runFieldpost(['config', 'apply', file, '--confirm-within', '1', ...data]);
    expect(trial).toMatchObject({ code: 0, out: expect.stringContaining('config confirm 2') as string });
    await waitFor(async () => (await daemon.status()).config.generation === 1, { what: 'the trial to be taken back' });
    expect(readFileSync(daemon.configPath, 'utf8')).toBe(config());

    const again = await runFieldpost(['config', 'apply', file, '--confirm-within', '600', ...data]);
    expect(again.code).toBe(0);
    expect(readFileSync(daemon.configPath, 'utf8')).toContain('routes:');
    await daemon.kill('SIGKILL');
    await using restarted = await startDaemon({ web, directory });
    expect((await restarted.status()).config.generation).toBe(1);
    expect(readFileSync(daemon.configPath, 'utf8')).toBe(config());

    // Both trials failed: what a change is made from is generation 1 all the same.
    const stale = await runFieldpost(['config', 'apply', file, '--base', '3', ...data]);
    expect(stale).toMatchObject({ code: 1, err: expect.stringContaining('but 1 is in use') as string });
    const kept = await runFieldpost(['config', 'apply', file, '--base', '1', '--confirm-within', '600', ...data]);
    const number = /confirm (\d+)/.exec(kept.out)?.[1] ?? '';
    expect((await runFieldpost(['config', 'confirm', number, ...data])).code).toBe(0);
    expect((await restarted.status()).config).toMatchObject({ generation: Number(number), state: 'healthy' });
  });

  it('takes another gateway id while it runs, and answers who asked for it', async () => {
    await using daemon = await startDaemon({ config: config('gateway: { id: plant-7 }\n'), web, directory });
    const file = directory.file('next.yaml');
    writeFileSync(file, config('gateway: { id: plant-8 }\n'));
    const data = ['--data', daemon.dataDirectory];
    expect(await runFieldpost(['config', 'apply', file, ...data])).toMatchObject({
      code: 0,
      out: expect.stringContaining('Generation 2 is in use (healthy)') as string,
    });
    await waitFor(async () => (await daemon.status()).gatewayId === 'plant-8', { what: 'the new id' });
    await waitFor(async () => (await runFieldpost(['buffer', 'stats', ...data])).code === 0, { what: 'the socket' });
  }, 40_000);

  it('takes an edit of the file on SIGHUP, and goes on with what ran when the edit has faults', async () => {
    await using daemon = await startDaemon({ config: config(), web, directory });
    writeFileSync(daemon.configPath, config('routes: [{ name: all, endpoint: $upstream }]\n'));
    process.kill(daemon.pid, 'SIGHUP');
    await waitFor(async () => (await daemon.status()).config.generation === 2, { what: 'the edit' });
    writeFileSync(daemon.configPath, config('routes: 5\n'));
    process.kill(daemon.pid, 'SIGHUP');
    await waitFor(async () => (await daemon.status()).config.degraded, { what: 'the fault to be shown' });
    expect((await daemon.status()).config).toMatchObject({ generation: 2 });
  });

  it('stops in order when it is told so while it starts', async () => {
    const daemon = spawnDaemon({ config: config(), web, directory });
    await waitFor(() => existsSync(daemon.dataDirectory), { what: 'the start to begin' });
    expect(await daemon.kill('SIGTERM')).toBe(0);
    await using again = await startDaemon({ config: config(), web, directory });
    expect((await again.status()).config.generation).toBe(1);
  });

  it('shows and exports the outbox of a running and of a stopped gateway', async () => {
    const daemon = await startDaemon({ config: config(), web, directory });
    const data = ['--data', daemon.dataDirectory, '--config', daemon.configPath];
    const running = await runFieldpost(['buffer', 'stats', ...data]);
    expect(running).toMatchObject({ code: 0, out: expect.stringContaining('$upstream') as string });
    await daemon.kill('SIGTERM');
    const stopped = await runFieldpost(['buffer', 'stats', '--json', ...data]);
    expect(stopped.code).toBe(0);
    expect(JSON.parse(stopped.out)).toMatchObject({ messages: 0 });
  });

  it('never prints a secret', async () => {
    const secret = 'hunter2-very-secret';
    const more = `endpoints: { other: { type: mqtt, url: "mqtt://${ADDRESS}:1", username: u, password: !env FP_PASSWORD } }\nadapters: { field: { type: mqtt, listen: { port: 2, address: ${ADDRESS} }, presets: [tasmota], clients: [{ username: pump, password: in-clear-secret }] } }\nroutes: [{ name: all, endpoint: other }]\n`;
    const env = { FP_PASSWORD: secret };
    const daemon = await startDaemon({ config: config(more), web, directory, env, args: ['--log-level', 'debug'] });
    const data = ['--data', daemon.dataDirectory];
    const shown = [
      await (await daemon.get('/api/status')).text(),
      await (await daemon.get('/metrics')).text(),
      (await runFieldpost(['config', 'show', ...data])).out,
    ];
    await daemon.kill('SIGTERM');
    for (const text of [...shown, daemon.log()]) expect(text).not.toMatch(/hunter2|in-clear/);
    const missing = await runFieldpost(['check', daemon.configPath]);
    expect(missing).toMatchObject({ code: 1, err: expect.stringContaining('FP_PASSWORD') as string });
  });

  it('exits 75 for a data directory on a read-only file system', async () => {
    const data = directory.directory('data');
    writeFileSync(directory.file('fieldpost.yaml'), config());
    // A file system of its own, because root may write to a directory without the right to.
    await run('mount', ['-t', 'tmpfs', '-o', 'ro,size=1m', 'fieldpost-test', data]);
    try {
      const result = await runFieldpost(['run', '--data', data, '--config', directory.file('fieldpost.yaml')]);
      expect(result).toMatchObject({
        code: 75,
        err: expect.stringMatching(/data directory .* cannot be created or written/) as string,
      });
    } finally {
      await run('umount', [data]);
    }
  });
});
