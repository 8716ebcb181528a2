// What a back end may ask of the gateway itself.

import { describe, expect, it } from 'vitest';
import { createGatewayMethods, type GatewayMethodsOptions } from '../../../../src/admin/gateway-methods.ts';
import type { ConfigProposal } from '../../../../src/core/admin.ts';
import type { CommandAnswer, DeviceCommand } from '../../../../src/core/command.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import { LIMITS } from '../../../../src/core/limits.ts';
import type { ScanEvent } from '../../../../src/core/scan.ts';
import { silentLogger } from '../../../../src/observe/logger.ts';
import { createLogTail } from '../../../../src/observe/log-tail.ts';
import { createAdminHarness } from '../../../support/admin.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const ACTOR = 'upstream:$upstream';

function rig(given: Partial<GatewayMethodsOptions> = {}) {
  const clock = new ManualClock();
  const { admin } = createAdminHarness();
  const proposed: ConfigProposal[] = [];
  const audited: { readonly command: DeviceCommand; readonly answer: CommandAnswer }[] = [];
  const config = {
    ...admin.config,
    propose: (proposal: ConfigProposal) => {
      proposed.push(proposal);
      return admin.config.propose(proposal);
    },
  };
  const methods = createGatewayMethods({
    admin: () => ({ ...admin, config }),
    logLines: () => [],
    restart: undefined,
    record: (command, _actor, answer) => void audited.push({ command, answer }),
    clock,
    log: silentLogger,
    ...given,
  });
  const call = (name: string, payload?: unknown) => methods.call(name, payload, ACTOR);
  return { admin, clock, call, proposed, audited };
}

describe('methods of the gateway', () => {
  it('tell how it is, without what happened lately', async () => {
    const { call, audited } = rig();
    const { status, body } = await call('status');
    expect({ status, body }).toMatchObject({ status: 200, body: { gatewayId: 'plant-7', config: { generation: 4 } } });
    expect(body).not.toHaveProperty('events');
    expect(audited).toEqual([]);
  });

  it.each([
    ['status', { more: 1 }],
    ['getLogs', { lines: 0 }],
    ['getLogs', [1]],
    ['scan', undefined],
    ['scan', { type: 'modbus', timeout_secs: 1000 }],
    ['restart', 'now'],
    ['applyConfig', { text: 'version: 1' }],
    ['applyConfig', { text: 'version: 1', base: 4, trial_secs: 1 }],
    ['confirmConfig', { generation: 'last' }],
  ])('refuse %s with %j', async (name, payload) => {
    const { call, proposed } = rig({ restart: () => expect.unreachable() });
    expect(await call(name, payload)).toMatchObject({ status: 400, body: { code: 'GW_USAGE' } });
    expect(proposed).toEqual([]);
  });

  it('wait until the gateway has started', async () => {
    const { call } = rig({ admin: () => undefined });
    expect(await call('status')).toMatchObject({ status: 503 });
  });

  it('give the last lines of the log, as many as an answer holds', async () => {
    const tail = createLogTail();
    for (let line = 1; line <= LIMITS.log_tail_lines + 5; line += 1) tail.add(`line ${line}\n`);
    const { call } = rig({ logLines: (lines) => tail.last(lines) });
    const last = LIMITS.log_tail_lines + 5;
    expect((await call('getLogs', { lines: 2 })).body).toEqual({ lines: [`line ${last - 1}`, `line ${last}`] });
    expect((await call('getLogs', { lines: 1000 })).body['lines']).toHaveLength(LIMITS.log_tail_lines);
    expect((await call('getLogs', { contains: 'line 77', lines: 2 })).body).toEqual({
      lines: ['line 778', 'line 779'],
    });
    for (let line = 0; line < 200; line += 1) tail.add('x'.repeat(LIMITS.log_tail_line_chars + 1));
    const { lines } = (await call('getLogs', { lines: 1000 })).body as { readonly lines: readonly string[] };
    expect(Buffer.byteLength(JSON.stringify(lines))).toBeLessThan(128 * 1024);
    expect(lines.length).toBeGreaterThan(40);
    expect(lines.at(-1)).toHaveLength(LIMITS.log_tail_line_chars);
  });

  it('scan until their time is over, and tell what was found by then', async () => {
    const finding = { place: 'tcp://10.0.0.5:502 unit 3', facts: {} };
    const base = rig();
    const { call, clock, audited } = rig({
      admin: () => ({
        ...base.admin,
        scan: ({ type }, { signal, report }) => {
          if (type !== 'modbus') return Promise.reject(new GatewayError('GW_NOT_FOUND', 'No such type.'));
          report({ kind: 'found', finding } satisfies ScanEvent);
          return new Promise((_, reject) => {
            signal.addEventListener('abort', () => reject(new GatewayError('GW_ABORTED', 'Stopped.')));
          });
        },
      }),
    });
    expect(await call('scan', { type: 'nothing' })).toMatchObject({ status: 404 });
    const answered = call('scan', { type: 'modbus', timeout_secs: 5 });
    clock.advance(5000);
    expect(await answered).toEqual({ status: 200, body: { complete: false, findings: [finding], notes: [] } });
    expect(audited.map(({ answer }) => answer.status)).toEqual([404, 200]);
  });

  it('restart where somebody starts it again, once the answer is out', async () => {
    expect(await rig().call('restart')).toMatchObject({
      status: 400,
      body: { reason: expect.stringMatching(/systemd/) as unknown },
    });
    let restarts = 0;
    const { call, clock, audited } = rig({ restart: () => (restarts += 1) });
    expect(await call('restart')).toEqual({ status: 200, body: { restarting: true } });
    expect(restarts).toBe(0);
    clock.advance(1000);
    expect(restarts).toBe(1);
    expect(audited).toMatchObject([{ command: { action: 'restart', deviceId: 'plant-7' }, answer: { status: 200 } }]);
  });

  it('try another configuration once the answer is out, for as long as it is not confirmed', async () => {
    const { call, clock, proposed, audited } = rig();
    const text = 'version: 1 # secret';
    expect(await call('applyConfig', { text, base: 3 })).toMatchObject({
      status: 400,
      body: { code: 'GW_CONFIG_CONFLICT' },
    });
    expect(await call('applyConfig', { text: 'bad', base: 4 })).toMatchObject({
      status: 400,
      body: { code: 'GW_CONFIG_INVALID', reason: 'x.yaml:1: bad' },
    });
    clock.advance(2000);
    expect(proposed).toEqual([]);
    expect(await call('applyConfig', { text, base: 4 })).toMatchObject({
      status: 200,
      body: { base: 4, trial_secs: 300 },
    });
    expect(proposed).toEqual([]);
    // What was promised to one is nobody else's.
    expect(await call('applyConfig', { text: 'version: 1 # other', base: 4 })).toMatchObject({
      status: 400,
      body: { code: 'GW_CONFIG_CONFLICT', reason: expect.stringMatching(/about to be applied/) as unknown },
    });
    clock.advance(1000);
    expect(proposed).toEqual([{ text, base: 4, actor: ACTOR, trialSecs: 300 }]);
    expect(await call('confirmConfig', { generation: 5 })).toMatchObject({ status: 200 });
    expect(audited.map(({ answer }) => answer.status)).toEqual([400, 400, 200, 400, 200]);
    expect(JSON.stringify(audited)).not.toContain('secret');
  });
});
