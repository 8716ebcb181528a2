// The control socket and its client, over a real UNIX socket.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { request } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runBufferCommand } from '../../src/admin/buffer-commands.ts';
import { connectControl, createControlClient } from '../../src/admin/control-client.ts';
import { createControlServer, type ControlServer } from '../../src/admin/control-server.ts';
import type { MessageView } from '../../src/core/admin.ts';
import { LIMITS } from '../../src/core/limits.ts';
import { silentLogger } from '../../src/observe/logger.ts';
import { createAdminHarness, type AdminHarness } from '../support/admin.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

let directory: TempDir;
let path: string;
let harness: AdminHarness;
let server: ControlServer;

const create = (at = path): ControlServer => createControlServer({ admin: harness.admin, path: at, log: silentLogger });

beforeEach(async () => {
  directory = createTempDir('control');
  path = directory.file('control.sock');
  harness = createAdminHarness();
  server = create();
  await server.start();
});

afterEach(async () => {
  await server.stop();
  await harness[Symbol.asyncDispose]();
  directory.remove();
});

describe('the client', () => {
  it('asks what the admin port answers', async () => {
    const client = await connectControl(path);
    harness.read(230.5);
    await harness.store(3);
    expect(await client.status()).toMatchObject({ gatewayId: 'plant-7', outbox: { messages: 3 } });
    expect(await client.health()).toMatchObject({ ready: true });
    const page = await client.devices({ deviceId: 'meter-1', limit: 1, withPoints: true });
    expect(page.items).toMatchObject([{ deviceId: 'meter-1', points: [{ value: 230.5 }, {}] }]);
    expect((await client.devices({ withPoints: false })).items.map(({ points }) => points)).toEqual([[], []]);
    expect(await client.buffer.stats()).toMatchObject({ messages: 3 });
  });

  it('gets the errors of the gateway as they were thrown', async () => {
    const client = createControlClient(path);
    const write = (point: string, value: number) => client.write({ deviceId: 'pump-3', point, value }, 'cli:test');
    await expect(write('absent', 1)).rejects.toMatchObject({
      code: 'GW_NOT_FOUND',
      message: expect.stringContaining('absent'),
    });
    await expect(write('sealed', 1)).rejects.toMatchObject({ code: 'GW_WRITE_REFUSED' });
    await expect(write('setpoint', 13)).rejects.toMatchObject({
      code: 'GW_DEVICE_OFFLINE',
      message: 'Pump pump-3 does not answer.',
    });
    await expect(client.buffer.purge('nowhere')).rejects.toMatchObject({ code: 'GW_NOT_FOUND' });
    await expect(client.devices({ limit: 0 })).rejects.toMatchObject({ code: 'GW_USAGE' });
    await expect(client.config.read(9)).rejects.toMatchObject({ code: 'GW_NOT_FOUND' });
    await expect(client.config.propose({ text: 'x', base: 3, actor: 'cli:test' })).rejects.toMatchObject({
      code: 'GW_CONFIG_CONFLICT',
    });
  });

  it('writes a value, integers of 64 bits whole', async () => {
    const client = createControlClient(path);
    const request = { deviceId: 'pump-3', point: 'setpoint', value: '18446744073709551615', integer: true };
    expect(await client.write(request, 'cli:test')).toEqual({ readBack: '18446744073709551615', quality: 'good' });
    expect(harness.writes[0]?.value).toBe(18446744073709551615n);
    expect(harness.telemetry.recent()[0]).toMatchObject({ name: 'point_written', fields: { actor: 'cli:test' } });
  });

  it('changes the configuration', async () => {
    const { config } = createControlClient(path);
    expect(await config.view()).toMatchObject({ generation: 4 });
    expect(await config.generations()).toHaveLength(1);
    expect(await config.read(4)).toBe('version: 1\n');
    expect(await config.check('bad')).toMatchObject({ faults: ['x.yaml:1: bad'] });
    expect(await config.propose({ text: 'x', base: 4, actor: 'cli:test', trialSecs: 60 })).toMatchObject({ number: 5 });
    await config.confirm(5, 'cli:test');
    await config.revert(5, 'cli:test');
  });

  it('runs buffer commands as on the store itself', async () => {
    await harness.store(1500);
    await harness.quarantineOne('no');
    let output = '';
    const ports = { buffer: createControlClient(path).buffer, out: (text: string) => void (output += text) };
    await runBufferCommand(['export'], ports);
    const messages = output
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as MessageView);
    expect(new Set(messages.filter(({ deviceId }) => deviceId === 'meter-1').map(({ seq }) => seq)).size).toBe(1499);
    output = '';
    await runBufferCommand(['requeue', '--all'], ports);
    expect(output).toContain('1 message waits');
  });

  it('says that no gateway runs: no socket, a dead one', async () => {
    await expect(connectControl(directory.file('absent.sock'))).rejects.toMatchObject({
      code: 'GW_NOT_RUNNING',
    });
    await server.stop();
    await expect(connectControl(path)).rejects.toMatchObject({ code: 'GW_NOT_RUNNING' });
  });

  it('says that what answers is no gateway', async () => {
    const at = directory.file('other.sock');
    const other = createServer((socket) => socket.resume().end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi'));
    await new Promise<void>((resolve) => other.listen(at, resolve));
    await expect(connectControl(at)).rejects.toMatchObject({ code: 'GW_PROTOCOL' });
    await new Promise((resolve) => other.close(resolve));
  });
});

describe('the socket', () => {
  it('is for the owner only', () => {
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it.runIf(process.getuid?.() === 0)('refuses other users', () => {
    chmodSync(directory.path, 0o755);
    const code = `import socket\ntry:\n  socket.socket(socket.AF_UNIX).connect(${JSON.stringify(path)}); print('open')\nexcept PermissionError: print('refused')`;
    expect(execFileSync('/usr/bin/python3', ['-c', code], { uid: 65534, gid: 65534 }).toString().trim()).toBe(
      'refused',
    );
  });

  it('is gone after the stop', async () => {
    await server.stop();
    expect(existsSync(path)).toBe(false);
    await server.stop();
  });

  it('is not taken from a living gateway', async () => {
    await expect(create().start()).rejects.toMatchObject({
      code: 'GW_DATA_LOCKED',
      message: expect.stringContaining(path),
    });
    expect(await createControlClient(path).health()).toMatchObject({ ready: true });
  });

  it('replaces that of a process that was killed', async () => {
    const at = directory.file('dead.sock');
    const script = `require('net').createServer().listen(${JSON.stringify(at)}, () => console.log('listening'))`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(existsSync(at)).toBe(true);
    const second = create(at);
    await second.start();
    expect(await createControlClient(at).health()).toMatchObject({ ready: true });
    await second.stop();
  });

  it('is not put in the place of a file', async () => {
    const at = directory.file('file.sock');
    writeFileSync(at, 'precious');
    await expect(create(at).start()).rejects.toMatchObject({ code: 'GW_PORT_DENIED' });
    expect(statSync(at).isFile()).toBe(true);
  });

  it('says what is wrong with a path that is too long or a directory that is absent', async () => {
    const long = directory.file('x'.repeat(120));
    await expect(create(long).start()).rejects.toMatchObject({
      code: 'GW_PORT_DENIED',
      message: expect.stringContaining('107 bytes'),
    });
    // No gateway can run there, so a command may open what a stopped one left.
    await expect(connectControl(long)).rejects.toMatchObject({
      code: 'GW_NOT_RUNNING',
      message: expect.stringContaining('107 bytes'),
    });
    await expect(create(directory.file('absent', 's')).start()).rejects.toMatchObject({ code: 'GW_PORT_DENIED' });
  });

  it('works at the longest path', async () => {
    mkdirSync(directory.file('d'));
    const base = directory.file('d', '');
    const at = `${base}/${'x'.repeat(107 - base.length - 1)}`;
    expect(Buffer.byteLength(at)).toBe(107);
    const second = create(at);
    await second.start();
    expect(await createControlClient(at).health()).toMatchObject({ ready: true });
    await second.stop();
  });
});

describe('bad requests', () => {
  function post(route: string, body: string, type = 'application/json'): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const headers = { 'content-type': type };
      const outgoing = request({ socketPath: path, method: 'POST', path: route, headers, agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      });
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  }

  it.each([
    ['/v1/write', '{'],
    ['/v1/write', '[]'],
    ['/v1/write', '{"deviceId":"pump-3","point":"setpoint","value":null,"actor":"x"}'],
    ['/v1/write', '{"deviceId":"pump-3","point":"setpoint","value":1}'],
    ['/v1/write', '{"deviceId":"pump-3","point":"setpoint","value":1,"actor":"x","more":1}'],
    ['/v1/buffer/purge', '{}'],
    ['/v1/buffer/requeue', '{"ids":"all"}'],
    ['/v1/config/propose', '{"text":1}'],
  ])('%s refuses %s', async (route, body) => {
    const { status, text } = await post(route, body);
    expect(status).toBe(400);
    expect(JSON.parse(text)).toMatchObject({ code: 'GW_USAGE' });
    expect(harness.writes).toEqual([]);
  });

  it('refuses a body beyond the bound', async () => {
    const { status } = await post('/v1/write', `{"x":"${'y'.repeat(LIMITS.control_request_bytes)}"}`);
    expect(status).toBe(413);
  });

  it('knows no other routes', async () => {
    expect(JSON.parse((await post('/v1/nothing', '{}')).text)).toMatchObject({ code: 'GW_NOT_FOUND' });
  });

  it('bounds its connections, and serves again when some have gone', async () => {
    const sockets = Array.from({ length: LIMITS.control_connections * 2 }, () => connect({ path }).resume());
    for (const socket of sockets) socket.on('error', () => {});
    const refused = () => sockets.filter(({ closed }) => closed).length;
    await waitFor(() => refused() >= LIMITS.control_connections);
    expect(refused()).toBe(LIMITS.control_connections);
    await expect(createControlClient(path).health()).rejects.toMatchObject({ code: 'GW_DISCONNECTED' });
    for (const socket of sockets) socket.destroy();
    await waitFor(() =>
      createControlClient(path)
        .health()
        .then(({ ready }) => ready)
        .catch(() => false),
    );
  });
});
