Code.ensure_loaded!(ElixirScope.Foundation.Infrastructure.Native)
ExUnit.start()
