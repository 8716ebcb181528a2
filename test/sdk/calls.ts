// The child's side of `test/support/sdk-child.ts`: functions that the test calls by name, and events that it is told.

import { onCommand, report } from '../support/child.ts';

/** What a test calls; arguments and results are JSON. */
export type Calls = Readonly<Record<string, (...args: never[]) => unknown>>;

interface Call {
  readonly id: number;
  readonly name: string;
  readonly args: readonly unknown[];
}

export function serveCalls(calls: Calls): void {
  onCommand((command) => {
    const { id, name, args } = command as Call;
    const call = calls[name] as ((...args: readonly unknown[]) => unknown) | undefined;
    if (call === undefined) {
      report({ id, error: { name: 'Error', message: `There is no call "${name}".` } });
      return;
    }
    Promise.resolve()
      .then(() => call(...args))
      .then(
        (result) => report({ id, result: result ?? null }),
        (error: unknown) => report({ id, error: errorOf(error) }),
      );
  });
}

export function tell(event: string, data: unknown): void {
  report({ event, data: data ?? null });
}

/** What an application sees of an error of the SDKs. */
export function errorOf(error: unknown): object {
  if (!(error instanceof Error)) return { name: 'NotAnError', message: String(error) };
  const { name, message } = error;
  const status = (error as { response?: { statusCode?: unknown } }).response?.statusCode;
  return {
    name: name === 'Error' ? error.constructor.name : name,
    message,
    ...(typeof status === 'number' && { statusCode: status }),
  };
}

/** The body of a message of the SDKs, received. */
export function textOf(message: { getData(): unknown }): string {
  return (message.getData() as Buffer).toString();
}
