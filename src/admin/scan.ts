// Runs a scan of a module, for a running gateway and for the command line without one.

import type { z } from 'zod';
import { listProfiles, readProfile } from '../config/profiles.ts';
import type { Adapter } from '../core/adapter.ts';
import { GatewayError } from '../core/errors.ts';
import type { AdapterDefinition, ModuleDefinition } from '../core/module.ts';
import type { ScanContext, ScanDefinition, ScanProfile, ScanRequest } from '../core/scan.ts';

export interface ScanRunnerOptions extends Pick<ScanContext, 'clock' | 'log'> {
  /** The user's own folder of device profiles. */
  readonly profileDirectory: string;
  readonly modules: readonly ModuleDefinition[];
  /** Adapters of a type that run here. */
  readonly running: (type: string) => readonly Adapter[];
}

export interface ScannableModule {
  readonly type: string;
  readonly scan: ScanDefinition;
  readonly module: AdapterDefinition;
}

type Scan = (request: ScanRequest, watch: Pick<ScanContext, 'signal' | 'report'>) => Promise<void>;

/** The modules that can search for devices. */
export function scannable(modules: readonly ModuleDefinition[]): readonly ScannableModule[] {
  return modules
    .filter((module): module is AdapterDefinition => module.kind === 'adapter')
    .flatMap((module) => (module.scan === undefined ? [] : [{ type: module.type, scan: module.scan, module }]));
}

function soundProfiles(module: AdapterDefinition, ownDirectory: string): readonly ScanProfile[] {
  return listProfiles(module, ownDirectory).flatMap(({ name, file }) => {
    const { values, faults } = readProfile(module, file);
    return faults.length === 0 ? [{ name, values }] : [];
  });
}

/** A function with the contract of `AdminApi.scan`. */
export function createScanRunner({ modules, running, profileDirectory, ...parts }: ScanRunnerOptions): Scan {
  let isBusy = false;
  return async ({ type, options }, watch) => {
    const found = scannable(modules).find((module) => module.type === type);
    if (found === undefined) {
      const types = scannable(modules).map((module) => module.type);
      throw new GatewayError('GW_NOT_FOUND', `"${type}" cannot be scanned; allowed: ${types.join(', ')}.`);
    }
    const parsed = found.scan.options.safeParse(options);
    if (!parsed.success) throw new GatewayError('GW_USAGE', scanFaults(parsed.error, found.scan.options));
    if (isBusy) throw new GatewayError('GW_THROTTLED', 'Another scan is under way. Wait for its end, or stop it.');
    isBusy = true;
    try {
      const scan = await found.scan.load();
      const profiles = (): readonly ScanProfile[] => soundProfiles(found.module, profileDirectory);
      await scan(parsed.data, { ...parts, ...watch, running: running(type), profiles });
    } finally {
      isBusy = false;
    }
  };
}

function scanFaults(error: z.ZodError, { shape }: z.ZodObject): string {
  return error.issues
    .map((issue) => {
      if (issue.code === 'unrecognized_keys') {
        return `${issue.keys.join(', ')}: not known here; allowed: ${Object.keys(shape).join(', ')}.`;
      }
      const name = issue.path.join('.');
      return `${name === '' ? '' : `${name}: `}${issue.message.replace(/\.?$/, '.')}`;
    })
    .join(' ');
}
