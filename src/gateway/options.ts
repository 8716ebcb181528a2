// What the daemon is given: files, modules, the web server and the system that it runs on.

import type { WebConfig } from '../config/config.ts';
import type { AdminApi } from '../core/admin.ts';
import type { Clock } from '../core/clock.ts';
import type { Logger } from '../core/log.ts';
import type { HeadDefinition } from '../core/module.ts';
import type { Service } from '../core/service.ts';
import type { Telemetry } from '../observe/events.ts';
import type { ServiceManager } from '../platform/systemd.ts';
import type { ModuleList } from './modules.ts';

export interface WebServerOptions extends Pick<WebConfig, 'address' | 'port'> {
  readonly admin: AdminApi;
  /** What requests from elsewhere than this machine must show. */
  readonly token: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly telemetry: Telemetry;
}

/** How main.ts hands in the web server, so that nothing here imports a module. */
export interface WebDefinition {
  readonly load: () => Promise<(options: WebServerOptions) => Service>;
}

export interface DaemonOptions {
  readonly configPath: string;
  readonly dataDirectory: string;
  readonly controlSocket: string;
  readonly modules: ModuleList;
  /** Protocols of the local hub. */
  readonly heads: readonly HeadDefinition[];
  /** Simulates every configured device (`run --simulate`). */
  readonly simulate?: boolean;
  readonly web: WebDefinition;
  /** Text of the configuration when there is none yet. */
  readonly starter: () => string;
  readonly version: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly manager: ServiceManager;
  /** The last lines of the log, the oldest first. */
  readonly logLines?: (lines: number) => readonly string[];
  /** Ends the process, for somebody to start it again; undefined where nobody would. */
  readonly restart?: (() => void) | undefined;
}
