// How asking over the control socket fails, as errors with the codes of the catalogue.

import { ERROR_CATALOGUE, errorText, GatewayError, systemCode, type ErrorCode } from '../core/errors.ts';

/** sun_path has 108 bytes with its end (unix(7)). */
const SOCKET_PATH_MAX_BYTES = 107;

/** Why no socket can have this path; undefined when one can. */
export function socketPathFault(path: string): string | undefined {
  return Buffer.byteLength(path) <= SOCKET_PATH_MAX_BYTES
    ? undefined
    : `The control socket's path "${path}" has more than ${SOCKET_PATH_MAX_BYTES} bytes, the most that the system allows. Use a data directory with a shorter path, or set RUNTIME_DIRECTORY.`;
}

/** For what the socket itself says. */
export function connectionError(socketPath: string, error: Error): GatewayError {
  if (error instanceof GatewayError) return error;
  const fault = socketPathFault(socketPath);
  if (fault !== undefined) return new GatewayError('GW_NOT_RUNNING', fault, { cause: error });
  const code = systemCode(error);
  if (code === 'ENOENT' || code === 'ECONNREFUSED') {
    return new GatewayError('GW_NOT_RUNNING', `No running gateway answers on "${socketPath}".`, { cause: error });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new GatewayError(
      'GW_UNAUTHORIZED',
      `The control socket "${socketPath}" may not be opened by this user. Run the command as the gateway's user or as root.`,
      { cause: error },
    );
  }
  return new GatewayError('GW_DISCONNECTED', `The control socket "${socketPath}" failed: ${errorText(error)}.`, {
    cause: error,
  });
}

/** The error that an answer tells of; `text` when it is not one of ours. */
export function answeredError(body: unknown, text: string): GatewayError {
  const { code, message } = body as { code?: unknown; message?: unknown };
  const known = typeof code === 'string' && Object.hasOwn(ERROR_CATALOGUE, code);
  return new GatewayError(known ? (code as ErrorCode) : 'GW_PROTOCOL', typeof message === 'string' ? message : text);
}
