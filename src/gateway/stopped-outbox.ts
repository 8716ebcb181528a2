// Opens the outbox of a gateway that does not run, for commands: with the queues and limits of its configuration, and as
// the owner of the data directory, so that the gateway can open every file afterwards.

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigStore } from '../config/config-store.ts';
import { errorText, GatewayError, systemCode } from '../core/errors.ts';
import type { Outbox, SalvageReport } from '../core/outbox.ts';
import { silentLogger } from '../observe/logger.ts';
import { checkCondition } from '../pipeline/condition.ts';
import { SystemClock } from '../platform/clock.ts';
import { lockDirectory } from '../platform/directory-lock.ts';
import { systemRandom } from '../platform/random.ts';
import { openOutbox } from '../store/open.ts';
import { routerFor, type ModuleList } from './modules.ts';

export interface StoppedOutboxOptions {
  readonly configPath: string;
  readonly dataDirectory: string;
  readonly modules: ModuleList;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The store was damaged, and was repaired to open it. */
  readonly onSalvaged: (report: SalvageReport) => void;
}

/**
 * The caller closes it, which also releases the data directory.
 * @throws GatewayError GW_DATA_DIRECTORY, GW_DATA_LOCKED, GW_CONFIG_INVALID, GW_CONFIG_IO, GW_STORE_OPEN, GW_STORE_FORMAT.
 */
export async function openStoppedOutbox(options: StoppedOutboxOptions): Promise<Outbox> {
  const { configPath, dataDirectory, modules, env } = options;
  await becomeOwner(dataDirectory);
  const lock = await lockDirectory(dataDirectory);
  try {
    const clock = new SystemClock();
    const log = silentLogger;
    const store = await ConfigStore.open({ configPath, dataDirectory, modules, clock, log, checkCondition, env });
    const { config } = (await store.load()).loaded;
    const outbox = await openOutbox({
      directory: join(dataDirectory, 'db', 'log'),
      gatewayId: config.gatewayId,
      clock,
      random: systemRandom,
      settings: config.outbox,
      queues: routerFor(config).queues,
      onEvent: (event) => {
        if (event.kind === 'salvaged') options.onSalvaged(event.report);
      },
      log,
    });
    const close = outbox.close.bind(outbox);
    outbox.close = async () => {
      await close();
      await lock.release();
    };
    return outbox;
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** Root gives up its rights for those of the directory's owner; anyone else stays who they are. */
async function becomeOwner(dataDirectory: string): Promise<void> {
  let owner: { uid: number; gid: number };
  try {
    owner = await stat(dataDirectory);
  } catch (error) {
    const what = systemCode(error) === 'ENOENT' ? 'does not exist' : `cannot be read: ${errorText(error)}`;
    throw new GatewayError(
      'GW_DATA_DIRECTORY',
      `The data directory ${dataDirectory} ${what}. Name the gateway's own with --data.`,
      { cause: error },
    );
  }
  if (process.getuid?.() !== 0 || owner.uid === 0) return;
  process.setgroups?.([owner.gid]);
  process.setgid?.(owner.gid);
  process.setuid?.(owner.uid);
}
