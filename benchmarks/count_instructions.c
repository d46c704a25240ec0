/* Instructions that an emulated program executes, for qemu-user's `-plugin count.so,count=COUNT`.
 *
 * COUNT holds one 64-bit number, in the machine's own byte order: those of all its threads, kept while it runs.
 * Counted are whole translated blocks as they begin. The few declarations are those of QEMU's plugin interface
 * (docs/devel/tcg-plugins in its sources), whose header Debian does not package.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct qemu_plugin_tb;
typedef uint64_t qemu_plugin_id_t;
typedef void (*translated_t)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*executed_t)(unsigned int, void *);
enum { NO_REGISTERS };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_t);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed_t, int, void *);

int qemu_plugin_version = 1;

static uint64_t *count;

static void executed(unsigned int thread, void *instructions)
{
    (void)thread;
    __atomic_fetch_add(count, (uintptr_t)instructions, __ATOMIC_RELAXED);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, NO_REGISTERS, (void *)qemu_plugin_tb_n_insns(block));
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    static const char argument[] = "count=";
    int file;

    (void)info;
    if (argc != 1 || strncmp(argv[0], argument, strlen(argument)) != 0)
        return -1;
    file = open(argv[0] + strlen(argument), O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof *count) != 0)
        return -1;
    count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (count == MAP_FAILED)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
