import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { modbus } from '../../../../modules/modbus/index.ts';
import { ConfigStore, type ConfigStoreOptions } from '../../../../src/config/config-store.ts';
import { formatFault } from '../../../../src/config/fault.ts';
import { LIMITS } from '../../../../src/core/limits.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { fakeModules, HandClock, ListLogger } from './fake-modules.ts';

let folder: string;
let configPath: string;
let log: ListLogger;
let clock: HandClock;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fieldpost-config-'));
  configPath = join(folder, 'fieldpost.yaml');
  log = new ListLogger();
  clock = new HandClock();
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** A start of the process. */
function open(options: Partial<ConfigStoreOptions> = {}): Promise<ConfigStore> {
  return ConfigStore.open({
    configPath,
    dataDirectory: folder,
    modules: fakeModules,
    clock,
    log,
    env: {},
    defaultGatewayId: parseDeviceId('fieldpost-000000'),
    ...options,
  });
}

async function started(options: Partial<ConfigStoreOptions> = {}): Promise<ConfigStore> {
  const store = await open(options);
  const { generation } = await store.load();
  await store.markHealthy(generation.number);
  return store;
}

const named = (id: string): string => `gateway: { id: ${id} } # by hand\n`;
const BROKEN = 'gateway: { idd: x }\n';
const states = (store: ConfigStore): string[] =>
  store.list().map(({ number, state, actor }) => `${number} ${state} ${actor}`);
const idOf = (store: ConfigStore): string => store.current().loaded.config.gatewayId;
const file = (): Promise<string> => readFile(configPath, 'utf8');

describe('the first start', () => {
  it('writes and runs the starter', async () => {
    const store = await open({ starter: () => named('starter') });
    const { generation, faults } = await store.load();
    expect(generation).toMatchObject({ number: 1, actor: 'starter', base: 0, state: 'pending' });
    expect(faults).toEqual([]);
    expect(await file()).toBe(named('starter'));
    await store.markHealthy(1);
    expect(states(store)).toEqual(['1 healthy starter']);
  });

  it('says that there is nothing when there is no starter', async () => {
    const store = await open();
    await expect(store.load()).rejects.toMatchObject({ code: 'GW_CONFIG_IO', details: { missing: true } });
    expect(() => store.current()).toThrow(/No configuration is loaded/);
  });

  it('refuses a first text with faults, and keeps it', async () => {
    await writeFile(configPath, BROKEN);
    const store = await open({ starter: () => named('starter') });
    await expect(store.load()).rejects.toMatchObject({
      code: 'GW_CONFIG_INVALID',
      details: { faults: [expect.stringContaining('fieldpost.yaml:1: gateway.idd:')] },
    });
    expect(await file()).toBe(BROKEN);
    expect(states(await open())).toEqual(['1 failed file']);
  });
});

describe('a later start', () => {
  it('knows an unchanged file again', async () => {
    await writeFile(configPath, named('a'));
    await started();
    const store = await started();
    expect(states(store)).toEqual(['1 healthy file']);
  });

  it('takes an edit by hand for a new generation', async () => {
    await writeFile(configPath, named('a'));
    await started();
    await writeFile(configPath, named('b'));
    const store = await started();
    expect(states(store)).toEqual(['1 superseded file', '2 healthy file']);
    expect(store.list()[1]).toMatchObject({ base: 1, at: new Date(clock.wallMs()).toISOString() });
    expect(await store.read(1)).toBe(named('a'));
  });

  it('runs the newest healthy one, loudly, when the file has faults, and leaves the file to its writer', async () => {
    await writeFile(configPath, named('a'));
    await started();
    await writeFile(configPath, named('b'));
    await started();
    await writeFile(configPath, BROKEN);
    const store = await open();
    const { generation, faults } = await store.load();
    expect(generation.number).toBe(2);
    expect(idOf(store)).toBe('b');
    expect(faults[0]).toContain('gateway.idd');
    expect(await file()).toBe(BROKEN);
    expect(log.lines.join('\n')).toContain('error The configuration does not load');
    // Once more: the same text is not a further generation.
    const again = await open();
    await again.load();
    expect(states(again)).toEqual(['1 superseded file', '2 healthy file', '3 failed file']);
  });

  it('runs the newest healthy one when the file is gone', async () => {
    await writeFile(configPath, named('a'));
    await started();
    await unlink(configPath);
    const store = await open({ starter: () => named('starter') });
    expect((await store.load()).faults[0]).toContain('There is no configuration');
    expect(idOf(store)).toBe('a');
  });

  it('runs a text again whose secret was missing for a while', async () => {
    const text = 'upstream: { type: broker, url: !env URL }\n';
    await writeFile(configPath, named('a'));
    await started();
    await writeFile(configPath, text);
    const without = await open();
    expect((await without.load()).faults).toHaveLength(1);
    const store = await started({ env: { URL: 'tls://x' } });
    expect(states(store)).toEqual(['1 superseded file', '2 healthy file']);
  });

  it('runs what was healthy without the parts whose secrets are gone, until they are there again', async () => {
    const env: Record<string, string> = { URL: 'tls://x', KEY: 'key' };
    const text = `
gateway: { id: plant }
adapters: { bus: { type: listener, port: 502 } }
upstream: { type: broker, url: !env URL, password: !env KEY }
endpoints: { other: { type: broker, url: 'tls://y', max_bytes: 2097152 } }
`;
    await writeFile(configPath, named('a'));
    await started();
    await writeFile(configPath, text);
    await started({ env });
    const without: Record<string, string> = {};
    const store = await started({ env: without });
    const { generation, loaded, faults } = store.current();
    expect([generation.number, generation.state, faults]).toEqual([2, 'healthy', []]);
    expect(loaded.partFaults.map(formatFault)).toEqual([
      expect.stringMatching(/fieldpost\.yaml:4: upstream\.password: !env KEY: the environment has no variable KEY/),
      expect.stringMatching(/fieldpost\.yaml:4: upstream\.url: !env URL/),
    ]);
    expect(loaded.config.upstream).toMatchObject({ type: 'broker', enabled: true, settings: {} });
    expect(loaded.config.upstream?.fault).toContain('KEY');
    expect(loaded.config.upstream?.fault).toContain('URL');
    expect(loaded.config.adapters).toMatchObject([{ id: 'bus', settings: { port: 502 } }]);
    expect(loaded.config.endpoints).toMatchObject([{ name: 'other', maxBytes: 2097152 }]);
    expect(loaded.config.endpoints[0]).not.toHaveProperty('fault');
    expect(log.lines.join('\n')).toContain('A part does not run, because a secret of it cannot be read');
    // What runs goes on when somebody asks.
    expect(await store.reload()).toMatchObject({ changes: [], faults: [], loaded: { partFaults: { length: 2 } } });
    expect(await store.recover()).toBeUndefined();
    Object.assign(without, env);
    const recovered = await store.recover();
    expect(recovered?.changes.map(({ part }) => part)).toContain('upstream');
    expect(recovered).toMatchObject({ faults: [], loaded: { partFaults: [] } });
    expect(idOf(store)).toBe('plant');
    expect(store.current().loaded.config.upstream).toMatchObject({ settings: { url: 'tls://x' } });
    expect(await store.recover()).toBeUndefined();
    expect(states(store)).toEqual(['1 superseded file', '2 healthy file']);
  });

  it('runs without such a part when the file has faults beside, and takes the secret back at a reload', async () => {
    const env: Record<string, string> = { URL: 'tls://x' };
    const text = 'upstream: { type: broker, url: !env URL }\n';
    await writeFile(configPath, text);
    await started({ env });
    await writeFile(configPath, BROKEN);
    const broken = await started();
    expect(broken.current()).toMatchObject({ generation: { number: 1 }, loaded: { partFaults: [expect.anything()] } });
    expect(broken.current().faults[0]).toContain('gateway.idd');
    await writeFile(configPath, text);
    const without: Record<string, string> = {};
    const store = await started({ env: without });
    expect(store.current().faults).toEqual([]);
    Object.assign(without, env);
    expect(await store.reload()).toMatchObject({ faults: [], generation: { number: 1 } });
    expect(store.current().loaded.partFaults).toEqual([]);
  });

  it('takes edits while a secret is missing that ran before, but none that need another one', async () => {
    const env: Record<string, string> = { KEY: 'key' };
    const text = (id: string, password: string): string =>
      `gateway: { id: ${id} }\nupstream: { type: broker, url: 'tls://x', password: !env ${password} }\n`;
    await writeFile(configPath, text('a', 'KEY'));
    await started({ env });
    const store = await started({ env: {} });
    expect(store.current().loaded.partFaults).toHaveLength(1);
    const { generation } = await store.propose(text('b', 'KEY'), { actor: 'ui', base: 1 });
    await store.markHealthy(generation.number);
    expect([idOf(store), store.current().loaded.partFaults]).toEqual(['b', [expect.anything()]]);
    await writeFile(configPath, `# by hand\n\n${text('c', 'KEY')}`);
    expect(await store.reload()).toMatchObject({ faults: [], generation: { number: 3 } });
    await store.markHealthy(3);
    expect(idOf(store)).toBe('c');
    await expect(store.propose(text('d', 'OTHER'), { actor: 'ui', base: 3 })).rejects.toMatchObject({
      details: { faults: [expect.stringContaining('!env OTHER')] },
    });
    expect((await started({ env: {} })).current().loaded.config.gatewayId).toBe('c');
  });

  it('takes a trial back although a secret of what ran before is gone', async () => {
    const env: Record<string, string> = { KEY: 'key' };
    await writeFile(configPath, `upstream: { type: broker, url: 'tls://x', password: !env KEY }\n`);
    const store = await started({ env });
    const { generation } = await store.propose(named('trial'), { actor: 'ui', base: 1, trialSecs: 60 });
    delete env['KEY'];
    const reverted = await store.revert(generation.number);
    expect(reverted).toMatchObject({ generation: { number: 1 }, loaded: { partFaults: [expect.anything()] } });
  });

  it('does not start a text that never ran with its secrets, nor one with a secret outside of the parts', async () => {
    await writeFile(configPath, 'upstream: { type: broker, url: !env URL }\n');
    await expect((await open()).load()).rejects.toMatchObject({ code: 'GW_CONFIG_INVALID' });
    await writeFile(configPath, 'gateway: { id: !env ID }\n');
    await started({ env: { ID: 'x' } });
    await expect((await open()).load()).rejects.toMatchObject({ code: 'GW_CONFIG_INVALID' });
  });

  it('never runs a generation whose text was damaged, and survives damaged notes', async () => {
    await writeFile(configPath, named('a'));
    await started();
    await writeFile(configPath, named('b'));
    await started();
    const generations = join(folder, 'config-generations');
    await writeFile(join(generations, '000002.yaml'), named('evil'));
    await writeFile(configPath, BROKEN);
    const store = await open();
    await store.load();
    expect(idOf(store)).toBe('a');
    await writeFile(join(generations, '000002.json'), '{ "number": 2');
    await writeFile(join(generations, '.000009.json.1-1.tmp'), 'x');
    await writeFile(join(generations, '000009.yaml'), named('never'));
    const again = await open();
    expect(states(again)).toEqual(['1 superseded file', '3 failed file']);
    await again.load();
    expect(idOf(again)).toBe('a');
    expect(await readdir(generations)).not.toContain('000009.yaml');
    // Its number is not given again.
    const { generation } = await again.propose(named('c'), { actor: 'api', base: 1 });
    expect(generation.number).toBe(10);
  });

  it('resolves relative secrets of a generation beside the file', async () => {
    await writeFile(join(folder, 'password'), 'sesame\n');
    await writeFile(configPath, 'upstream: { type: broker, url: "tls://x", password: !file password }\n');
    await started();
    await writeFile(configPath, BROKEN);
    const store = await open();
    await store.load();
    expect(store.current().loaded.config.upstream?.settings['password']).toBe('sesame');
    const kept = await readFile(join(folder, 'config-generations', '000001.yaml'), 'utf8');
    expect(kept).toContain('!file password');
    expect(kept + log.lines.join('')).not.toContain('sesame');
  });
});

describe('propose', () => {
  it('writes a generation and the file, and tells what changes', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    const { generation, changes } = await store.propose(`${named('a')}outbox: { max_bytes: 2000000 }\n`, {
      actor: 'ui:anna',
      base: store.current().generation.number,
    });
    expect(generation).toMatchObject({ number: 2, actor: 'ui:anna', base: 1, state: 'pending' });
    expect(changes).toEqual([{ path: 'outbox.max_bytes', kind: 'changed', part: 'outbox', apply: 'live' }]);
    expect(await file()).toContain('max_bytes');
    await store.markHealthy(2);
    expect(states(store)).toEqual(['1 superseded file', '2 healthy ui:anna']);
  });

  it('refuses faults, stale bases and overlapping changes, and changes nothing', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    await expect(store.propose(BROKEN, { actor: 'api', base: 1 })).rejects.toMatchObject({ code: 'GW_CONFIG_INVALID' });
    const both = await Promise.allSettled([
      store.propose(named('b'), { actor: 'anna', base: 1 }),
      store.propose(named('c'), { actor: 'ben', base: 1 }),
    ]);
    expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect(both[1]).toMatchObject({ reason: { code: 'GW_CONFIG_CONFLICT' } });
    expect(await file()).toBe(named('b'));
    expect(states(store)).toEqual(['1 healthy file', '2 pending anna']);
    expect(idOf(store)).toBe('b');
  });

  it('tells faults of the file that the author has, and of its own without one', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    const refused = (proposal: { file?: string }): Promise<unknown> =>
      store.propose(BROKEN, { actor: 'cli:anna', base: 1, ...proposal }).catch((error: unknown) => error);
    expect(await refused({ file: 'bad.yaml' })).toMatchObject({
      details: { faults: [expect.stringMatching(/^bad\.yaml:1: gateway\.idd: /)] },
    });
    expect(await refused({})).toMatchObject({
      details: { faults: [expect.stringMatching(/fieldpost\.yaml:1: gateway\.idd: /)] },
    });
  });

  it('does not overwrite a hand edit that was not looked at', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    await writeFile(configPath, named('by-hand'));
    await expect(store.propose(named('b'), { actor: 'api', base: 1 })).rejects.toMatchObject({
      code: 'GW_CONFIG_CONFLICT',
    });
    expect(await file()).toBe(named('by-hand'));
    await store.reload();
    expect(idOf(store)).toBe('by-hand');
    await store.propose(named('b'), { actor: 'api', base: store.current().generation.number });
    expect(idOf(store)).toBe('b');
  });

  it.each([
    ['is not text in UTF-8', 'save it as UTF-8', () => writeFile(configPath, Buffer.from('# Z\xfcrich\n', 'latin1'))],
    ['is too large', 'bytes; the most is', () => writeFile(configPath, '#'.repeat(LIMITS.config_bytes + 1))],
    ['is a folder', 'is not a file', () => unlink(configPath).then(() => mkdir(configPath))],
  ])('does not overwrite a file that %s, and a reload tells of it', async (_what, told, edit) => {
    await writeFile(configPath, named('a'));
    const store = await started();
    await edit();
    const before = await stat(configPath);
    const refused = await store.reload();
    expect(refused).toMatchObject({ changes: [], faults: [expect.stringContaining(told)] });
    expect(store.current().faults).toEqual(refused?.faults);
    expect(idOf(store)).toBe('a');
    await expect(store.propose(named('b'), { actor: 'api', base: 1 })).rejects.toMatchObject({
      code: 'GW_CONFIG_CONFLICT',
      message: expect.stringContaining(told),
    });
    expect(() => store.checkBase(1)).toThrow(told);
    expect((await stat(configPath)).ino).toBe(before.ino);
    expect(states(store)).toEqual(['1 healthy file']);
    // Mended.
    await rm(configPath, { recursive: true });
    await writeFile(configPath, named('a'));
    expect((await store.reload())?.faults).toEqual([]);
  });

  it('makes a file that is gone anew', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    await unlink(configPath);
    expect((await store.reload())?.faults[0]).toContain('There is no configuration');
    await store.propose(named('b'), { actor: 'api', base: 1 });
    expect(await file()).toBe(named('b'));
    expect(store.current().faults).toEqual([]);
  });

  it('follows links and keeps the permissions of the file', async () => {
    const target = join(folder, 'real.yaml');
    await writeFile(target, named('a'));
    await chmod(target, 0o604);
    await symlink(target, configPath);
    const store = await started();
    await store.propose(named('b'), { actor: 'api', base: 1 });
    expect(await readFile(target, 'utf8')).toBe(named('b'));
    expect((await stat(target)).mode & 0o777).toBe(0o604);
    expect((await stat(join(folder, 'config-generations', '000002.yaml'))).mode & 0o777).toBe(0o600);
  });

  it('leaves things as they were when the file cannot be written', async () => {
    const place = join(folder, 'etc');
    await mkdir(place);
    configPath = join(place, 'fieldpost.yaml');
    await writeFile(configPath, named('a'));
    const store = await started();
    // Nobody, root neither, makes a folder where a file stands.
    await rm(place, { recursive: true });
    await writeFile(place, '');
    await expect(store.propose(named('b'), { actor: 'api', base: 1 })).rejects.toMatchObject({ code: 'GW_CONFIG_IO' });
    expect(idOf(store)).toBe('a');
    expect(store.list().at(-1)).toMatchObject({ number: 2, state: 'failed', cause: 'unwritten' });
  });

  it('keeps a bounded number of generations, the healthy one among them', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    for (let round = 2; round < LIMITS.config_generations + 10; round += 1) {
      await store.propose(named(`g-${round}`), { actor: 'api', base: store.current().generation.number });
      if (round % 2 === 0 && round < 20) await store.markHealthy(round);
    }
    expect(store.list()).toHaveLength(LIMITS.config_generations);
    expect(store.list().filter(({ state }) => state === 'healthy')).toMatchObject([{ number: 18 }]);
    const names = await readdir(join(folder, 'config-generations'));
    expect(names).toHaveLength(2 * LIMITS.config_generations);
    // Faulty files saved one after the other push out neither the healthy one nor the newest.
    for (let round = 0; round < LIMITS.config_generations + 5; round += 1) {
      await writeFile(configPath, `${BROKEN}# ${round}\n`);
      await store.reload();
    }
    expect(store.list()).toHaveLength(LIMITS.config_generations);
    expect(store.list().some(({ state }) => state === 'healthy')).toBe(true);
    expect((await (await open()).load()).generation.number).toBe(18);
  });
});

describe('a late word that an older generation runs', () => {
  it('does not touch the newer one', async () => {
    await writeFile(configPath, named('a'));
    const store = await open();
    await store.load();
    await store.propose(named('b'), { actor: 'api', base: 1 });
    await store.markHealthy(1);
    expect(states(store)).toEqual(['1 healthy file', '2 pending api']);
    await store.revert(2);
    expect(idOf(store)).toBe('a');
  });
});

describe('an old generation that runs because newer ones do not load', () => {
  it('is kept however many changes come, and can be gone back to', async () => {
    await writeFile(configPath, named('old'));
    let store = await started();
    const env = { ID: 'x' };
    store = await started({ env });
    for (let round = 0; round < LIMITS.config_generations - 1; round += 1) {
      const text = `gateway: { id: !env ID }\n# ${round}\n`;
      const { generation } = await store.propose(text, { actor: 'api', base: store.current().generation.number });
      await store.markHealthy(generation.number);
    }
    // The variable is gone: only the first generation loads.
    store = await open();
    expect((await store.load()).generation.number).toBe(1);
    for (let round = 0; round < 3; round += 1) {
      await writeFile(configPath, `${BROKEN}# ${round}\n`);
      await store.reload();
    }
    await store.propose(named('new'), { actor: 'api', base: store.current().generation.number, trialSecs: 60 });
    await store.revert(store.current().generation.number);
    expect(idOf(store)).toBe('old');
    expect(store.list()).toHaveLength(LIMITS.config_generations);
  });
});

describe('trial', () => {
  it('is kept when it is confirmed', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    await store.propose(named('b'), { actor: 'ui', base: 1, trialSecs: 60 });
    clock.nowMs += 20_000;
    expect(store.trial()).toEqual({ number: 2, base: 1, remainingMs: 40_000 });
    // That it runs is not yet that somebody can still reach it.
    await store.markHealthy(2);
    expect(store.trial()?.number).toBe(2);
    await expect(store.propose(named('c'), { actor: 'ui', base: 2 })).rejects.toMatchObject({
      code: 'GW_CONFIG_CONFLICT',
    });
    expect(() => store.checkBase(2)).toThrow(/A trial is under way/);
    await store.confirm(2);
    store.checkBase(2);
    expect(() => store.checkBase(1)).toThrow(/2 is in use/);
    expect(store.trial()).toBeUndefined();
    expect(states(store)).toEqual(['1 superseded file', '2 healthy ui']);
    await expect(store.confirm(2)).rejects.toMatchObject({ code: 'GW_CONFIG_CONFLICT' });
    await expect(store.revert(2)).rejects.toMatchObject({ code: 'GW_CONFIG_CONFLICT' });
  });

  it('goes back when its time is over, and the refused text is kept', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    await store.propose(named('b'), { actor: 'ui', base: 1, trialSecs: 60 });
    clock.nowMs += 61_000;
    expect(store.trial()?.remainingMs).toBe(0);
    const { generation, changes } = await store.revert(2, 'Nobody confirmed it.');
    expect(generation).toMatchObject({ number: 1, state: 'healthy' });
    expect(changes).toEqual([{ path: 'gateway.id', kind: 'changed', part: 'gateway', apply: 'restart_part' }]);
    expect(await file()).toBe(named('a'));
    expect(await store.read(2)).toBe(named('b'));
    expect(store.list()[1]).toMatchObject({ state: 'failed', cause: 'unconfirmed', reason: 'Nobody confirmed it.' });
    // A change is made from what runs, and not from what failed since.
    await expect(store.propose(named('c'), { actor: 'ui', base: 2 })).rejects.toMatchObject({
      code: 'GW_CONFIG_CONFLICT',
    });
    const next = await store.propose(named('c'), { actor: 'ui', base: 1 });
    expect(next.generation).toMatchObject({ number: 3, base: 1 });
    expect(idOf(store)).toBe('c');
  });

  it('goes back at the next start when the process ended', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    await store.propose(named('b'), { actor: 'ui', base: 1, trialSecs: 60 });
    const next = await started();
    expect(idOf(next)).toBe('a');
    expect(await file()).toBe(named('a'));
    expect(states(next)).toEqual(['1 healthy file', '2 failed ui']);
  });

  it('ends with an edit by hand', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    await store.propose(named('b'), { actor: 'ui', base: 1, trialSecs: 60 });
    await writeFile(configPath, named('by-hand'));
    const change = await store.reload();
    expect(change?.generation).toMatchObject({ number: 3, base: 1, state: 'pending' });
    expect(store.trial()).toBeUndefined();
    await store.revert(3, 'The adapter did not start.');
    expect(idOf(store)).toBe('a');
    expect(await file()).toBe(named('a'));
  });

  it('is not run again when the file could not be put back', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    await store.propose(named('b'), { actor: 'ui', base: 1, trialSecs: 60 });
    await store.revert(2);
    // As if the write had failed: the text of the trial is still there.
    await writeFile(configPath, named('b'));
    expect(await store.reload()).toBeUndefined();
    const next = await open();
    expect((await next.load()).faults[0]).toContain('taken back');
    expect(idOf(next)).toBe('a');
  });

  it('is not run again either when a further change was cut off before the file was written', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    await store.propose(named('b'), { actor: 'ui', base: 1, trialSecs: 60 });
    await store.revert(2);
    await store.propose(named('c'), { actor: 'ui', base: 1 });
    // As if neither the revert nor the proposal had come to write the file.
    await writeFile(configPath, named('b'));
    const next = await open();
    expect((await next.load()).faults[0]).toContain('taken back');
    expect(idOf(next)).toBe('a');
    expect(next.list().at(-1)).toMatchObject({ number: 3, cause: 'interrupted' });
  });

  it('is not run again when another one was taken back before it', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    await store.propose(named('b'), { actor: 'api', base: 1 });
    await store.propose(named('c'), { actor: 'api', base: 2 });
    await store.revert(3);
    await store.revert(2);
    // As if the second could not be put back.
    await writeFile(configPath, named('b'));
    expect(await store.reload()).toBeUndefined();
    const next = await open();
    expect((await next.load()).faults[0]).toContain('generation 2, which was taken back');
    expect(idOf(next)).toBe('a');
    // It does not stand in the way of a change either.
    await next.propose(named('d'), { actor: 'api', base: 1 });
    expect(await file()).toBe(named('d'));
    await next.markHealthy(4);
    // Long after, whoever writes it by hand wants it.
    await writeFile(configPath, named('b'));
    expect((await next.reload())?.generation).toMatchObject({ number: 5, base: 4 });
  });

  it('wants a time above 0', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    for (const trialSecs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      await expect(store.propose(named('b'), { actor: 'ui', base: 1, trialSecs })).rejects.toMatchObject({
        code: 'GW_USAGE',
      });
    }
  });
});

describe('reload', () => {
  it('gives nothing for the file that runs', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    expect(await store.reload()).toBeUndefined();
  });

  it('notices a profile that was edited, though the text that names it is the same', async () => {
    const profile = join(folder, 'profiles', 'mine.yaml');
    const points = (register: string): string =>
      `title: Mine\nsource: me\npoints: { a: { register: "${register}" } }\n`;
    await mkdir(join(folder, 'profiles'));
    await writeFile(profile, points('input:0'));
    await writeFile(
      configPath,
      'adapters: { bus: { type: modbus, transport: { kind: tcp, host: a }, devices: { meter: { profile: mine } } } }\n',
    );
    const store = await started({ modules: [modbus] });
    expect(await store.reload()).toBeUndefined();
    await writeFile(profile, points('input:1'));
    expect((await store.reload())?.changes).toMatchObject([
      { path: 'adapters.bus.devices.meter.points.a.register', part: 'adapter:bus' },
    ]);
    await store.markHealthy(2);
    expect(states(store)).toEqual(['1 superseded file', '2 healthy file']);
    await writeFile(profile, points('nowhere:1'));
    const refused = await store.reload();
    expect(refused).toMatchObject({ generation: { number: 2 }, changes: [] });
    expect(refused?.faults.join()).toContain('mine.yaml:3: points.a.register');
    await writeFile(profile, points('input:1'));
    expect(await store.reload()).toMatchObject({ faults: [], changes: [] });
    expect(await store.reload()).toBeUndefined();
  });

  it('runs the last healthy generation with the profiles that it ran with, when one has faults or is gone', async () => {
    const profile = join(folder, 'profiles', 'mine.yaml');
    await mkdir(join(folder, 'profiles'));
    await writeFile(profile, 'title: Mine\nsource: me\npoints: { a: { register: "input:7" } }\n');
    await writeFile(
      configPath,
      'adapters: { bus: { type: modbus, transport: { kind: tcp, host: a }, devices: { meter: { profile: mine } } } }\n',
    );
    const store = await started({ modules: [modbus] });
    await store.markHealthy(1);
    for (const harm of [
      () => writeFile(profile, 'title: Mine\nsource: me\npoints: { a: { register: nowhere } }\n'),
      () => unlink(profile),
    ]) {
      await harm();
      const again = await started({ modules: [modbus] });
      expect(again.current().generation.number).toBe(1);
      expect(again.current().faults.join()).toContain('mine');
      expect(JSON.stringify(again.current().loaded.values)).toContain('input:7');
    }
  });

  it('keeps what runs when the new text has faults, until they are mended', async () => {
    await writeFile(configPath, named('a'));
    const store = await started();
    await writeFile(configPath, BROKEN);
    const refused = await store.reload();
    expect(refused?.changes).toEqual([]);
    expect(refused?.faults).toHaveLength(1);
    expect(idOf(store)).toBe('a');
    await store.reload();
    expect(states(store)).toEqual(['1 healthy file', '2 failed file']);
    // The person goes back to the old text.
    await writeFile(configPath, named('a'));
    expect((await store.reload())?.faults).toEqual([]);
    expect(store.current().faults).toEqual([]);
    await writeFile(configPath, named('c'));
    expect((await store.reload())?.changes.map(({ path }) => path)).toEqual(['gateway.id']);
  });
});
