// The web server over real sockets: what it answers, to whom, and what it refuses.

import { request } from 'node:http';
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { Script } from 'node:vm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  devicePageSchema,
  deviceSchema,
  healthSchema,
  pointPageSchema,
  statusSchema,
} from '../../modules/web/contract.ts';
import { createWebServer, type WebServer, type WebServerOptions } from '../../modules/web/index.ts';
import { LIMITS } from '../../src/core/limits.ts';
import { silentLogger } from '../../src/observe/logger.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { createAdminHarness, type AdminHarness } from '../support/admin.ts';
import { parsePrometheus } from '../support/prometheus.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.60.1';
const TOKEN = 'the-token';
let harness: AdminHarness;
let web: WebServer;

async function start(options: Partial<WebServerOptions> = {}): Promise<WebServer> {
  const server = createWebServer({
    address: ADDRESS,
    port: 0,
    token: TOKEN,
    admin: harness.admin,
    clock: new SystemClock(),
    log: silentLogger,
    telemetry: harness.telemetry,
    ...options,
  });
  await server.start(new AbortController().signal);
  return server;
}

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

function get(path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(new URL(path, web.url()), { headers, method, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
    });
    outgoing.on('error', reject);
    outgoing.end();
  });
}

const json = async (path: string): Promise<unknown> => JSON.parse((await get(path)).text);

/** An own reader of server-sent events. */
function listen(path: string): { events: { name: string; data: unknown }[]; close(): void; status: Promise<number> } {
  const events: { name: string; data: unknown }[] = [];
  const { promise: status, resolve } = Promise.withResolvers<number>();
  const outgoing = request(new URL(path, web.url()), { agent: false }, (response) => {
    resolve(response.statusCode ?? 0);
    let rest = '';
    response.setEncoding('utf8').on('data', (chunk: string) => {
      const blocks = (rest + chunk).split('\n\n');
      rest = blocks.pop() ?? '';
      for (const block of blocks) {
        const name = /^event: (.*)$/m.exec(block)?.[1];
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (name !== undefined && data !== undefined) events.push({ name, data: JSON.parse(data) });
      }
    });
    response.on('error', () => {});
  });
  outgoing.on('error', () => {});
  outgoing.end();
  return { events, status, close: () => outgoing.destroy() };
}

beforeEach(async () => {
  harness = createAdminHarness();
  web = await start();
});

afterEach(async () => {
  await web.stop(new AbortController().signal);
  await harness[Symbol.asyncDispose]();
});

describe('what it answers', () => {
  it('health by the roll-up: 200 while ready, 503 else, with reasons', async () => {
    const good = await get('/health');
    expect(good.status).toBe(200);
    expect(healthSchema.parse(JSON.parse(good.text))).toEqual({
      live: true,
      ready: true,
      degraded: false,
      reasons: [],
    });
    harness.outboxHealth = { status: 'failed', reason: 'Messages cannot be stored: no space.' };
    const bad = await get('/health');
    expect(bad.status).toBe(503);
    expect(JSON.parse(bad.text)).toEqual({
      live: true,
      ready: false,
      degraded: true,
      reasons: [{ part: 'outbox', status: 'failed', reason: 'Messages cannot be stored: no space.' }],
    });
    harness.outboxHealth = { status: 'running' };
    harness.stalled.push('No commit was answered.');
    expect((await get('/health')).status).toBe(503);
  });

  it('metrics that a Prometheus reads', async () => {
    await harness.store(7);
    const { headers, text } = await get('/metrics');
    expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
    const { value } = parsePrometheus(text);
    expect(value('fieldpost_outbox_messages')).toBe(7);
    expect(value('fieldpost_messages_stored_total')).toBe(7);
    expect(value('fieldpost_ready')).toBe(1);
    expect(value('fieldpost_devices', { state: 'unknown' })).toBe(1);
    expect(value('fieldpost_devices', { state: 'good' })).toBe(1);
    expect(value('fieldpost_memory_rss_bytes')).toBeGreaterThan(1e7);
  });

  it('the status, devices and points as the contract says', async () => {
    harness.read(230.5);
    await harness.store(3);
    const status = statusSchema.parse(await json('/api/status'));
    expect(status).toMatchObject({ gatewayId: 'plant-7', outbox: { messages: 3 }, config: { generation: 4 } });
    const { items } = devicePageSchema.parse(await json('/api/devices'));
    expect(items.map(({ deviceId }) => deviceId)).toEqual(['meter-1', 'pump-3']);
    expect(items[0]?.points).toMatchObject([
      { point: 'voltage', value: 230.5, quality: 'good', unit: 'V' },
      { point: 'energy', value: '1152921504606846976' },
    ]);
    expect(items[1]?.points[0]).toMatchObject({ point: 'setpoint', quality: 'unknown', writable: true });
    const rows = pointPageSchema.parse(await json('/api/points?deviceId=meter-1'));
    expect(rows.items).toMatchObject([
      { deviceId: 'meter-1', point: 'voltage' },
      { deviceId: 'meter-1', point: 'energy' },
    ]);
  });

  it('pages of devices, each once', async () => {
    const first = devicePageSchema.parse(await json('/api/devices?limit=1'));
    expect(first).toMatchObject({ items: [{ deviceId: 'meter-1' }], next: 'meter-1' });
    const second = devicePageSchema.parse(await json(`/api/devices?limit=1&after=${first.next}`));
    expect(second.items).toMatchObject([{ deviceId: 'pump-3' }]);
    expect(second.next).toBeUndefined();
  });

  it('a page that needs nothing from elsewhere, with a script that is one', async () => {
    const { headers, text } = await get('/');
    expect(headers['content-type']).toContain('text/html');
    expect(headers['content-security-policy']).toContain("default-src 'none'");
    expect(headers['content-security-policy']).not.toContain('unsafe');
    expect(headers['x-content-type-options']).toBe('nosniff');
    expect(text).not.toMatch(/(src|href)="?(https?:)?\/\//);
    // The policy forbids both, so the page must do without them.
    expect(text).not.toMatch(/<script(?![^>]*src=)|style="| on\w+="/);
    const script = await get('/app.js');
    expect(script.headers['content-type']).toContain('javascript');
    expect(() => new Script(script.text)).not.toThrow();
    expect(script.text).not.toMatch(/innerHTML|insertAdjacentHTML|document\.write|eval\(/);
    const ids = [...text.matchAll(/ id="([\w-]+)"/g)].map((match) => match[1]);
    for (const [, id] of script.text.matchAll(/byId\('([\w-]+)'\)/g)) expect(ids).toContain(id);
    expect((await get('/style.css')).headers['content-type']).toContain('text/css');
  });
});

describe('live values', () => {
  it('sends all at first, then what changes, and the status', async () => {
    harness.read(230);
    const client = listen('/api/live');
    const values = (): unknown[] =>
      client.events
        .filter(({ name }) => name === 'devices')
        .flatMap(({ data }) => deviceSchema.array().parse(data))
        .filter(({ deviceId }) => deviceId === 'meter-1')
        .map(({ points }) => points[0]?.value);
    await waitFor(() => values().includes(230));
    harness.read(231);
    harness.read(232);
    await waitFor(() => values().at(-1) === 232);
    expect(statusSchema.parse(client.events.find(({ name }) => name === 'status')?.data).gatewayId).toBe('plant-7');
    client.close();
  });

  it('tells a device that goes offline without a value, and one that is gone', async () => {
    const client = listen('/api/live');
    const devices = (): { deviceId: string; state: string }[] =>
      client.events.filter(({ name }) => name === 'devices').flatMap(({ data }) => deviceSchema.array().parse(data));
    await waitFor(() => devices().length >= 2);
    harness.registry.report('pump-3' as never, 'offline', 'timeout');
    await waitFor(() => devices().some(({ deviceId, state }) => deviceId === 'pump-3' && state === 'offline'));
    harness.registry.setAdapter('bus-1', []);
    await waitFor(() =>
      client.events.some(({ name, data }) => name === 'removed' && JSON.stringify(data).includes('pump-3')),
    );
    client.close();
  });

  it('takes as many clients as the bound and gives their places back', async () => {
    const clients = Array.from({ length: LIMITS.web_live_clients }, () => listen('/api/live'));
    for (const client of clients) expect(await client.status).toBe(200);
    const refused = await get('/api/live');
    expect(refused.status).toBe(429);
    expect(JSON.parse(refused.text)).toMatchObject({ code: 'GW_THROTTLED' });
    clients[0]?.close();
    await waitFor(async () => {
      const late = listen('/api/live');
      const status = await late.status;
      late.close();
      return status === 200;
    });
    for (const client of clients) client.close();
  });
});

describe('who may ask', () => {
  it.each(['evil.example', 'localhost.evil.example:80'])('nobody under the name %s', async (host) => {
    for (const path of ['/', '/health', '/metrics', '/api/status', '/api/live', '/nothing']) {
      const answer = await get(path, { host });
      expect(answer.status).toBe(421);
      expect(answer.text).not.toContain('plant-7');
    }
  });

  it('who comes through a proxy only with the token', async () => {
    const headers = { 'x-forwarded-for': '203.0.113.9' };
    for (const path of ['/', '/health', '/metrics', '/api/status', '/api/live', '/nothing']) {
      const refused = await get(path, headers);
      expect(refused.status).toBe(401);
      expect(refused.text).not.toContain(TOKEN);
    }
    expect((await get('/health', { ...headers, authorization: 'Bearer wrong' })).status).toBe(401);
    expect((await get('/health', { ...headers, authorization: `Bearer ${TOKEN}` })).status).toBe(200);
    const password = Buffer.from(`anyone:${TOKEN}`).toString('base64');
    expect((await get('/', { ...headers, authorization: `Basic ${password}` })).status).toBe(200);
  });

  it('writes nothing, by no method', async () => {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
      for (const path of ['/', '/health', '/api/status', '/api/devices', '/api/points', '/api/live', '/v1/write']) {
        expect((await get(path, {}, method)).status).toBe(404);
      }
    }
    expect(harness.writes).toEqual([]);
  });
});

describe('bad input', () => {
  it.each([
    '/api/devices?limit=0',
    '/api/devices?limit=1001',
    '/api/points?limit=x',
    '/api/devices?what=1',
    '/api/live?state=fine',
  ])('refuses %s and says why', async (path) => {
    const answer = await get(path);
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.text)).toMatchObject({ code: 'GW_USAGE' });
  });

  it('answers a path that is nowhere with JSON, and repeats nothing of it', async () => {
    const answer = await get('/%3Cscript%3E');
    expect(answer.status).toBe(404);
    expect(answer.text).not.toContain('script');
  });

  it('stays up under garbage', async () => {
    const { hostname, port } = new URL(web.url() ?? '');
    const socket = connect({ host: hostname, port: Number(port) });
    socket.on('error', () => {});
    socket.resume();
    socket.write('\x00\x01\x02 garbage\r\n\r\n');
    await new Promise((resolve) => socket.once('close', resolve));
    expect((await get('/health')).status).toBe(200);
  });
});

describe('a port in use', () => {
  it('degrades with what, where and what to do; is opened when it is free', async () => {
    const squatter: Server = createServer();
    await new Promise<void>((resolve) => squatter.listen(0, ADDRESS, resolve));
    const { port } = squatter.address() as AddressInfo;
    const second = await start({ port });
    expect(second.health()).toMatchObject({
      status: 'degraded',
      reason: expect.stringContaining(`${ADDRESS}:${port}`),
    });
    expect(harness.telemetry.recent()[0]).toMatchObject({
      name: 'web_unavailable',
      fields: { code: 'GW_PORT_IN_USE' },
    });
    expect(second.url()).toBeUndefined();
    await new Promise((resolve) => squatter.close(resolve));
    await waitFor(() => second.health().status === 'running');
    expect(second.url()).toBe(`http://${ADDRESS}:${port}/`);
    await second.stop(new AbortController().signal);
  });

  it('stops at once while it waits for the port, and while clients listen', async () => {
    const { port } = new URL(web.url() ?? '');
    const second = await start({ port: Number(port) });
    const client = listen('/api/live');
    expect(await client.status).toBe(200);
    const startMs = performance.now();
    await second.stop(new AbortController().signal);
    await web.stop(new AbortController().signal);
    expect(performance.now() - startMs).toBeLessThan(2000);
    expect(second.health()).toEqual({ status: 'stopped' });
  });

  it('says that the machine has no such address', async () => {
    const second = await start({ address: '192.0.2.1', port: 8080 });
    expect(second.health().reason).toContain('no such address');
    await second.stop(new AbortController().signal);
  });
});
