// Who started this process: the environments that launchers leave to their ranks, alone and nested.
#include "base/launcher.h"

#include <unistd.h>

#include <catch2/catch.hpp>

#include "base/ancestors.h"

namespace hora {
namespace {

using Catch::Contains;
using Values = Environment::Values;

// As the launchers leave them, of the variables that count.
Values open_mpi_4(int rank) {
  return {{"OMPI_COMM_WORLD_RANK", std::to_string(rank)},
          {"OMPI_COMM_WORLD_SIZE", "4"},
          {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
          {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
          {"OMPI_MCA_ess_base_jobid", "1693974529"},
          {"PMIX_NAMESPACE", "1693974529"},
          {"PMIX_RANK", std::to_string(rank)}};
}
Values mpich(int rank) {
  return {{"PMI_RANK", std::to_string(rank)},
          {"PMI_SIZE", "4"},
          {"PMI_FD", "9"},
          {"MPI_LOCALRANKID", std::to_string(rank)},
          {"MPI_LOCALNRANKS", "4"}};
}
Values torchrun(int rank) {
  return {{"RANK", std::to_string(rank)},       {"WORLD_SIZE", "2"},
          {"LOCAL_RANK", std::to_string(rank)}, {"LOCAL_WORLD_SIZE", "2"},
          {"MASTER_ADDR", "127.0.0.1"},         {"MASTER_PORT", "41513"},
          {"TORCHELASTIC_RUN_ID", "none"},      {"TORCHELASTIC_RESTART_COUNT", "0"}};
}
Values slurm(int rank) {
  return {{"SLURM_PROCID", std::to_string(rank)},
          {"SLURM_STEP_NUM_TASKS", "7"},
          {"SLURM_LOCALID", "1"},
          {"SLURM_JOB_ID", "4711"},
          {"SLURM_STEP_ID", "3"},
          {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"},
          {"SLURM_NODEID", "1"},
          {"SLURM_NTASKS", "7"}};
}
Values hora_run(int rank) {
  return {{"HORA_RANK", std::to_string(rank)},
          {"HORA_SIZE", "2"},
          {"HORA_LAUNCH_TOKEN", "0123456789abcdef"},
          {"HORA_STORE", "unix:@store"},
          {"HORA_JOB", "run-1"}};
}
Values both(Values one, const Values& other) {
  one.insert(other.begin(), other.end());
  return one;
}

Ancestor ancestor(pid_t pid, Values values) {
  return {pid, 1000, Environment(std::move(values))};
}

Launch recognize(Values values, std::vector<Ancestor> ancestors = {}) {
  auto launch = recognize_launcher(Environment(std::move(values)), ancestors);
  INFO(launch.status().to_string());
  REQUIRE(launch.ok());
  return std::move(launch).value();
}

TEST_CASE("without_a_launcher_nobody_started_it") {
  const Launch launch = recognize({{"HOME", "/root"}, {"RANK", "3"}, {"SLURM_PROCID", "0"}});
  CHECK(launch.launcher.empty());
  CHECK(launch.hora);
}

TEST_CASE("each_launcher_is_recognised") {
  const Launch open = recognize(open_mpi_4(3));
  CHECK(open.launcher == "mpirun of Open MPI");
  CHECK(open.evidence == "OMPI_COMM_WORLD_RANK=3, OMPI_COMM_WORLD_SIZE=4");
  CHECK((open.rank == 3 && open.size == 4 && open.local_rank == 1 && open.local_size == 2 && !open.hora));

  const Launch hydra = recognize(mpich(2));
  CHECK(hydra.launcher == "mpiexec of MPICH or Intel MPI");
  CHECK((hydra.rank == 2 && hydra.size == 4 && hydra.local_rank == 2 && hydra.local_size == 4));

  const Launch torch = recognize(torchrun(1));
  CHECK(torch.launcher == "torchrun");
  CHECK((torch.rank == 1 && torch.size == 2 && torch.local_rank == 1 && torch.local_size == 2));

  const Launch srun = recognize(slurm(3));
  CHECK(srun.launcher == "srun of Slurm");
  CHECK((srun.rank == 3 && srun.size == 7 && srun.local_rank == 1 && srun.local_size == 2));

  const Launch own = recognize(hora_run(1));
  CHECK(own.launcher == "hora run");
  CHECK((own.hora && own.overruled.empty()));
  CHECK(recognize({{"HORA_RANK", "1"}, {"HORA_SIZE", "2"}}).launcher == "a user");
}

TEST_CASE("ranks_of_one_job_agree_on_its_name_and_other_jobs_have_others") {
  const Ancestor mpirun = ancestor(100, {}), other = ancestor(101, {});
  const Launch one = recognize(open_mpi_4(0), {mpirun}), two = recognize(open_mpi_4(3), {mpirun});
  CHECK((one.job == two.job && one.host_job == two.host_job));
  CHECK_THAT(one.job, Catch::StartsWith("mpirun-"));
  // A job id can come again: the process that launched it does not.
  const Launch next = recognize(open_mpi_4(0), {other});
  CHECK((next.job == one.job && next.host_job != one.host_job));
  Ancestor reused = mpirun;
  reused.start_time += 1;
  CHECK(recognize(open_mpi_4(0), {reused}).host_job != one.host_job);
  Values restarted = torchrun(0);
  restarted["TORCHELASTIC_RESTART_COUNT"] = "1";
  CHECK(recognize(restarted, {mpirun}).host_job != recognize(torchrun(0), {mpirun}).host_job);
}

TEST_CASE("wrappers_between_launcher_and_rank_do_not_count") {
  const Ancestor mpirun = ancestor(100, {{"HOME", "/root"}}), shell = ancestor(200, open_mpi_4(2));
  CHECK(recognize(open_mpi_4(2), {shell, mpirun}).host_job == recognize(open_mpi_4(1), {mpirun}).host_job);
}

TEST_CASE("the_innermost_launcher_wins") {
  const Values outer = open_mpi_4(3);
  // torchrun in mpirun: its agent has mpirun's variables, and not its own.
  CHECK(recognize(both(torchrun(0), outer), {ancestor(2, outer), ancestor(1, {})}).launcher == "torchrun");
  // mpirun in torchrun.
  CHECK(recognize(both(outer, torchrun(0)), {ancestor(2, torchrun(0)), ancestor(1, {})}).launcher ==
        "mpirun of Open MPI");
  // mpirun in srun: its daemon has Slurm's.
  CHECK(recognize(both(slurm(1), outer), {ancestor(2, slurm(1)), ancestor(1, {})}).launcher == "mpirun of Open MPI");
  // srun in mpirun, against the fixed order.
  CHECK(recognize(both(slurm(1), outer), {ancestor(2, outer), ancestor(1, {})}).launcher == "srun of Slurm");
  // mpirun in torchrun in mpirun: the inner mpirun has the outer one's rank, but as another job.
  Values outermost = open_mpi_4(0);
  outermost["PMIX_NAMESPACE"] = outermost["OMPI_MCA_ess_base_jobid"] = "17";
  const Launch twice = recognize(both(open_mpi_4(0), torchrun(0)),
                                 {ancestor(3, both(outermost, torchrun(0))), ancestor(2, outermost), ancestor(1, {})});
  CHECK(twice.launcher == "mpirun of Open MPI");
}

TEST_CASE("where_ancestors_cannot_be_read_a_fixed_order_decides") {
  const Ancestor closed{2, 1000, std::nullopt};
  const std::vector<std::vector<Ancestor>> chains = {{}, {closed}, {closed, ancestor(1, {})}};
  for (const std::vector<Ancestor>& ancestors : chains) {
    CHECK(recognize(both(torchrun(0), open_mpi_4(3)), ancestors).launcher == "torchrun");
    CHECK(recognize(both(slurm(1), open_mpi_4(3)), ancestors).launcher == "mpirun of Open MPI");
    CHECK(recognize(both(hora_run(1), open_mpi_4(3)), ancestors).launcher == "hora run");
  }
  // What cannot be read is at least not in front of what can.
  CHECK(recognize(both(slurm(1), torchrun(0)), {ancestor(3, torchrun(0)), closed}).launcher == "srun of Slurm");
}

TEST_CASE("an_inner_launcher_puts_what_hora_run_said_out_of_force") {
  const Launch inner = recognize(both(open_mpi_4(3), hora_run(0)), {ancestor(2, hora_run(0)), ancestor(1, {})});
  CHECK(inner.launcher == "mpirun of Open MPI");
  CHECK(std::ranges::count(inner.overruled, "HORA_STORE") == 1);
  // What a user has set is meant for the ranks, but for who they are.
  const Values user = {{"HORA_RANK", "0"}, {"HORA_SIZE", "1"}, {"HORA_STORE", "tcp:a:1"}};
  const Launch of_user = recognize(both(open_mpi_4(3), user), {ancestor(2, user), ancestor(1, {})});
  CHECK(of_user.launcher == "mpirun of Open MPI");
  CHECK(std::ranges::count(of_user.overruled, "HORA_RANK") == 1);
  CHECK(std::ranges::count(of_user.overruled, "HORA_STORE") == 0);
}

TEST_CASE("a_rank_that_a_user_names_wins_where_mpirun_started_the_shell_that_says_so") {
  const Values user = {{"HORA_RANK", "0"}, {"HORA_SIZE", "2"}, {"HORA_STORE", "tcp:a:1"}};
  CHECK(recognize(both(open_mpi_4(3), user), {ancestor(2, open_mpi_4(3)), ancestor(1, {})}).launcher == "a user");
}

TEST_CASE("a_newcomer_that_a_user_starts_is_none_of_a_launchers_ranks") {
  const Values join = {{"HORA_JOIN", "1"}, {"HORA_STORE", "tcp:a:1"}};
  const Launch launch = recognize(both(open_mpi_4(0), join), {ancestor(2, join), ancestor(1, {})});
  CHECK(launch.hora);
  CHECK(launch.evidence == "HORA_JOIN=1");
}

TEST_CASE("what_does_not_add_up_is_refused_by_name") {
  const auto refusal = [](Values values) {
    return recognize_launcher(Environment(std::move(values)), {}).status().to_string();
  };
  CHECK_THAT(refusal({{"OMPI_COMM_WORLD_RANK", "1"}}),
             Contains("OMPI_COMM_WORLD_SIZE is not set") && Contains("mpirun of Open MPI"));
  CHECK_THAT(refusal({{"PMI_RANK", "4"}, {"PMI_SIZE", "4"}}),
             Contains("PMI_RANK: '4' is not a whole number from 0 to 3"));
  CHECK_THAT(refusal({{"PMI_RANK", "0"}, {"PMI_SIZE", "many"}}), Contains("PMI_SIZE: 'many'"));
}

TEST_CASE("slurms_tasks_of_each_node") {
  CHECK(tasks_of_node("4", 0) == 4);
  CHECK(tasks_of_node("2(x3),1", 2) == 2);
  CHECK(tasks_of_node("2(x3),1", 3) == 1);
  CHECK_FALSE(tasks_of_node("2(x3),1", 4).has_value());
  for (const auto* text : {"", "x", "2x", "0", ",2", "2(3)"}) CHECK_FALSE(tasks_of_node(text, 0).has_value());
}

TEST_CASE("the_parent_and_the_start_of_a_process_are_found_behind_any_name") {
  const std::string rest = " 4711 5 5 0 -1 4194304 0 0 0 0 1 2 3 4 20 0 1 0 987654 1000 200";
  for (const std::string& name : {std::string("sh"), std::string("a b"), std::string("x) S 1 ("), std::string(")")}) {
    const ProcessOrigin origin = parse_process_stat("42 (" + name + ") S" + rest);
    CHECK(origin.parent == 4711);
    CHECK(origin.start_time == 987654);
  }
  CHECK(parse_process_stat("").parent == 0);
  CHECK(parse_process_stat("42 (sh) S").parent == 0);
}

TEST_CASE("the_ancestors_of_this_process_begin_with_its_parent") {
  const std::vector<Ancestor> ancestors = ancestors_of_this_process();
  if (::getppid() == 0) return;  // the parent is in another namespace
  REQUIRE_FALSE(ancestors.empty());
  CHECK(ancestors[0].pid == ::getppid());
  CHECK(ancestors[0].start_time > 0);
}

}  // namespace
}  // namespace hora
