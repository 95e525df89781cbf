// x509's dependency injection reads decorators' metadata and throws on import without reflect-metadata before it:
// every module imports x509 from here.
import 'reflect-metadata'
export * from '@peculiar/x509'
