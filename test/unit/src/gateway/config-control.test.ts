// When a change of the configuration is kept, and when it is taken back.

import { readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ConfigStore } from '../../../../src/config/config-store.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { createConfigControl, type ConfigControl } from '../../../../src/gateway/config-control.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';
import { recordingTelemetry } from '../../../support/upstream-rig.ts';
import { waitFor } from '../../../support/wait.ts';
import { fakeModules, ListLogger } from '../config/fake-modules.ts';

const named = (id: string): string => `gateway: { id: ${id} }\n`;

let directory: TempDir;
let clock: ManualClock;
let control: ConfigControl;
let telemetry: ReturnType<typeof recordingTelemetry>;
/** Gateway ids of what was applied; one of them cannot be. */
let applied: string[];
let impossible: string;

beforeEach(async () => {
  directory = createTempDir('config-control');
  clock = new ManualClock();
  telemetry = recordingTelemetry();
  applied = [];
  impossible = '';
  const configPath = directory.file('fieldpost.yaml');
  writeFileSync(configPath, named('first'));
  const store = await ConfigStore.open({
    configPath,
    dataDirectory: directory.path,
    modules: fakeModules,
    clock,
    log: new ListLogger(),
    env: {},
    defaultGatewayId: parseDeviceId('fieldpost-000000'),
  });
  await store.load();
  control = createConfigControl({
    store,
    configPath,
    clock,
    telemetry,
    apply: () => {
      const { gatewayId } = store.current().loaded.config;
      applied.push(gatewayId);
      return gatewayId === impossible ? Promise.reject(new Error('No.')) : Promise.resolve();
    },
  });
  await control.markStarted();
});

afterEach(async () => {
  await control.stop();
  directory.remove();
});

const file = (): string => readFileSync(directory.file('fieldpost.yaml'), 'utf8');
const propose = (id: string, trialSecs?: number) =>
  control.propose({ text: named(id), base: 1, actor: 'ui', ...(trialSecs !== undefined && { trialSecs }) });

it('takes a trial back that nobody confirms in time', async () => {
  await propose('second', 60);
  clock.advance(59_000);
  expect(control.view()).toMatchObject({ generation: 2, state: 'trial' });
  clock.advance(1000);
  await waitFor(() => applied.length === 2);
  expect(applied).toEqual(['second', 'first']);
  expect(control.view()).toMatchObject({ generation: 1, state: 'healthy' });
  expect(file()).toBe(named('first'));
  expect(telemetry.of('config_reverted')).toMatchObject([{ fields: { generation: 2, to: 1 } }]);
});

it('keeps a trial that is confirmed', async () => {
  await propose('second', 60);
  await control.confirm(2, 'ui');
  clock.advance(3_600_000);
  await control.stop();
  expect(applied).toEqual(['second']);
  expect(file()).toBe(named('second'));
});

it('takes back at once what cannot be applied, and says so', async () => {
  impossible = 'second';
  await expect(propose('second')).rejects.toThrow('No.');
  expect(applied).toEqual(['second', 'first']);
  expect(file()).toBe(named('first'));
  expect(telemetry.of('config_not_applied')).toMatchObject([{ fields: { generation: 2, error: 'No.' } }]);
});
